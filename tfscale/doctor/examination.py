"""The examinations of `tfscale doctor`, one after the other, and the report of all."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import strategies
from strategies.extension import host_and_port
from tfscale.doctor.accelerators import accelerator_facts, examine_accelerators
from tfscale.doctor.cluster_configuration import (
    cluster_facts,
    examine_cluster,
    read_cluster,
    resolved,
    tasks_of,
)
from tfscale.doctor.finding import EXAMINATIONS, ORDER, Finding
from tfscale.doctor.host import examine_host, host_facts
from tfscale.doctor.releases import examine_releases, installed_releases, tested_releases
from tfscale.doctor.storage import Kind, examine_folder, examine_locks, temporary_folder
from tfscale.doctor.wheels import examine_wheels, installed_versions
from tfscale.files.secret_masking import masked_text


def examine(
    examinations: Collection[str] = EXAMINATIONS,
    *,
    folders: Sequence[Path] = (),
    shared_dir: Path | None = None,
    cluster: tuple[strategies.Cluster | None, list[Finding]] | None = None,
) -> dict[str, Any]:
    """Examines this host and process, and returns the report as JSON values.

    Args:
        examinations: Which of `finding.EXAMINATIONS`. Without "releases", TensorFlow is not
            imported.
        folders: Folders that the job writes to, besides that of temporary files.
        shared_dir: A folder that tasks share.
        cluster: What `read_cluster` returned. None reads the environment.

    Example:
        >>> list(examine())[:5]
        ['versions', 'devices', 'cluster', 'tested', 'features']
    """
    findings: list[Finding] = []
    # First: importing TensorFlow takes much of the memory.
    host = _host(findings) if "host" in examinations else None
    found_cluster, of_cluster = read_cluster() if cluster is None else cluster
    if "cluster" in examinations:
        findings += cluster_findings(found_cluster, of_cluster)
    storage: list[dict[str, Any]] = []
    if "storage" in examinations:
        storage = _storage(folders, shared_dir, findings)
    if "wheels" in examinations:
        findings += examine_wheels()
    releases: Mapping[str, Any] = {}
    if "releases" in examinations:
        releases, of_releases = examine_releases()
        findings += of_releases
    accelerators = None
    if "accelerators" in examinations:
        accelerators = accelerator_facts()
        findings += examine_accelerators(
            accelerators, installed_versions(), os.environ, releases.get("devices") or None
        )
    versions = installed_releases()
    report = {
        "versions": versions,
        "devices": releases.get("devices", {}),
        "cluster": None if found_cluster is None else cluster_facts(found_cluster),
        "tested": tested_releases(versions),
        "features": releases.get("features", []),
        "fixes": releases.get("fixes", []),
        "private_symbols": releases.get("private_symbols", []),
        "host": host,
        "storage": storage,
        "accelerators": accelerators,
        "peers": None,
        "health": None,
        "examinations": list(examinations),
        "problems": [],
        "remarks": [],
        "findings": [],
    }
    return with_findings(report, findings)


def cluster_findings(
    cluster: strategies.Cluster | None, of_reading: Sequence[Finding]
) -> list[Finding]:
    """Looks up the names of a cluster, and judges it.

    Args:
        cluster: What `read_cluster` returned.
        of_reading: The findings that it returned.
    """
    if cluster is None:
        return [*of_reading]
    names = resolved(host_and_port(address)[0] for address in tasks_of(cluster).values())
    return [*of_reading, *examine_cluster(cluster, names, environ=os.environ)]


def with_findings(report: Mapping[str, Any], findings: Iterable[Finding]) -> dict[str, Any]:
    """Returns a report with more findings, sorted by their examinations.

    Args:
        report: Of `examine`.
        findings: What else was found.
    """
    rows = [
        *report["findings"],
        *(
            {
                "examination": finding.examination,
                "is_problem": finding.is_problem,
                "found": masked_text(finding.found),
                "cure": masked_text(finding.cure),
            }
            for finding in findings
        ),
    ]
    rows.sort(key=lambda row: ORDER.index(row["examination"]))
    return {
        **report,
        "problems": [_text(row) for row in rows if row["is_problem"]],
        "remarks": [_text(row) for row in rows if not row["is_problem"]],
        "findings": rows,
    }


def _text(row: Mapping[str, Any]) -> str:
    return f"{row['found']} {row['cure']}".strip()


def _host(findings: list[Finding]) -> dict[str, Any]:
    facts = host_facts()
    findings += examine_host(facts, os.environ)
    return facts


def _storage(
    folders: Sequence[Path], shared_dir: Path | None, findings: list[Finding]
) -> list[dict[str, Any]]:
    rows = []

    def look(folder: Path, kind: Kind) -> list[Finding]:
        row, found = examine_folder(folder, kind)
        rows.append(row)
        findings.extend(found)
        return found

    for folder in dict.fromkeys([*folders, *([shared_dir] if shared_dir is not None else [])]):
        found = look(folder, "named")
        if folder == shared_dir and not any(finding.is_problem for finding in found):
            findings += examine_locks(folder)
    look(temporary_folder(), "temporary")
    look(Path.cwd(), "current")
    return rows
