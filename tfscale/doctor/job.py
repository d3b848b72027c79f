"""The doctor of one task of a job: it meets those of the others, and checks the host's health."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import strategies
from strategies.extension import host_and_port
from tfscale.doctor import health
from tfscale.doctor.all_reduce import NoAllReduce, all_reduce_ms
from tfscale.doctor.cluster_configuration import (
    own_task,
    port_finding,
    read_cluster,
    tasks_of,
)
from tfscale.doctor.examination import cluster_findings, examine, with_findings
from tfscale.doctor.finding import Finding, problem, remark
from tfscale.doctor.health_findings import (
    Thresholds,
    compare_workers,
    examine_health,
    first_of_each,
)
from tfscale.doctor.peers.findings import compared_versions, examine_peers
from tfscale.doctor.peers.meeting import Meeting
from tfscale.doctor.releases import installed_releases
from tfscale.doctor.storage import temporary_folder
from tfscale.files.output_files import reason


@dataclass(frozen=True)
class Task:
    """What the doctor is asked to do in this task.

    Attributes:
        examinations: Which of `finding.EXAMINATIONS`.
        folders: Folders that the job writes to.
        shared_dir: A folder that tasks share, or None.
        peers: Whether to meet the doctors of the other tasks.
        seconds: How long to wait for them.
        thresholds: What the job needs of this host, or None: its health is not checked.
    """

    examinations: Collection[str]
    folders: Sequence[Path]
    shared_dir: Path | None
    peers: bool
    seconds: float
    thresholds: Thresholds | None


def examine_task(
    task: Task, say: Callable[[str], None], show: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Examines this task, with the others if there are some, and shows the report.

    Args:
        task: What to do.
        say: Called with lines of progress.
        show: Called with the report. Afterwards this task waits until the others have shown theirs.
    """
    cluster, of_cluster = read_cluster()
    # Before this process listens at the address of its task itself.
    together = task.peers or task.thresholds is not None
    found: list[Finding] = []
    if together or "cluster" in task.examinations:
        found += cluster_findings(cluster, of_cluster)
    if cluster is None or not together:
        if task.peers and not of_cluster:
            found.append(_NO_CLUSTER)
        report = _rest(task, cluster)
        if task.thresholds is not None:
            report["health"] = _measured(task, say, is_first=True)
            found += _of_health(report["health"], task.thresholds)
        report = with_findings(report, found)
        show(report)
        return report
    versions = compared_versions(installed_releases())
    with Meeting(
        cluster, seconds=task.seconds, versions=versions, shared_dir=task.shared_dir
    ) as meeting:
        return _together(task, cluster, meeting, versions, found, say, show)


_NO_CLUSTER = problem(
    "peers",
    "No cluster was found in the environment of this process, so it has no peers.",
    "Start it as every task of the job: tfscale launch, srun, mpirun, or with TF_CONFIG.",
)


def _together(
    task: Task,
    cluster: strategies.Cluster,
    meeting: Meeting,
    versions: dict[str, str],
    of_cluster: list[Finding],
    say: Callable[[str], None],
    show: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    addresses = tasks_of(cluster)
    others = len(addresses) - (meeting.task in addresses)
    say(f"{meeting.task}: looking for {others} other tasks, for at most {task.seconds:g} s")
    meeting.connect()
    report = with_findings(_rest(task, cluster), of_cluster)
    measured = None
    if task.thresholds is not None:
        meeting.gather("health")  # all measure at the same time, so that figures compare
        first = first_of_each(meeting.machines)
        measured = _measured(task, say, is_first=meeting.task in first)
    meeting.publish(None if measured is None else measured["figures"])
    table = meeting.collect()
    folder = None if task.shared_dir is None else str(task.shared_dir)
    found = examine_peers(
        meeting.task,
        addresses,
        table,
        versions=versions,
        shared_dir=folder,
        seconds=task.seconds,
    )
    if meeting.listening_error is not None:
        found += _newly_taken(
            report, meeting.task, addresses[meeting.task], meeting.listening_error
        )
    report["peers"] = {
        "task": meeting.task,
        "seconds": task.seconds,
        "shared_dir": folder,
        "tasks": {name: None if facts is None else facts["row"] for name, facts in table.items()},
    }
    if measured is not None and task.thresholds is not None:
        measured["tasks"] = {n: facts and facts["figures"] for n, facts in table.items()}
        found += compare_workers(measured["tasks"], meeting.task, meeting.machines)
        if _may_reduce(cluster):
            found += _all_reduce(cluster, meeting, measured, say)
        found += _of_health(measured, task.thresholds)
        report["health"] = measured
    report = with_findings(report, found)
    show(report)
    meeting.gather("end")
    return report


def _newly_taken(report: dict[str, Any], task: str, address: str, error: OSError) -> list[Finding]:
    """Returns the problem of a port that was free when the cluster was examined, and is not now."""
    _, port = host_and_port(address)
    known = [row["found"] for row in report["findings"] if row["is_problem"]]
    finding = port_finding(task, port, error)
    return [] if finding.found in known else [finding]


def _rest(task: Task, cluster: strategies.Cluster | None) -> dict[str, Any]:
    """Returns the report without the findings of the cluster, which come from `examine_task`."""
    others = [each for each in task.examinations if each != "cluster"]
    rest = examine(others, folders=task.folders, shared_dir=task.shared_dir, cluster=(cluster, []))
    return {**rest, "examinations": list(task.examinations)}


def _measured(task: Task, say: Callable[[str], None], *, is_first: bool) -> dict[str, Any]:
    """Measures devices and, in the first task of a machine, its memory and disk."""
    devices = health.matmul_gflops(say)
    folder = task.shared_dir or next(iter(task.folders), None) or temporary_folder()
    figures = {health.MATMUL: min(devices.values())}
    error = ""
    if is_first:
        say("copies in memory")
        figures[health.MEMORY] = health.memory_gb_per_s()
        say(f"writing to and reading from {folder}")
        try:
            figures[health.DISK_WRITE], figures[health.DISK_READ] = health.disk_mb_per_s(folder)
        except OSError as found:
            error = reason(found)
    return {
        "figures": figures,
        "devices": devices,
        "folder": str(folder),
        "disk_error": error,
        "tasks": {},
    }


def _of_health(measured: dict[str, Any], thresholds: Thresholds) -> list[Finding]:
    findings = examine_health(measured["figures"], thresholds, measured["devices"])
    if measured["disk_error"]:
        found = f"The disk of {measured['folder']} was not measured: {measured['disk_error']}."
        findings.append(problem("health", found, "Choose another folder by --dirs."))
    return findings


def _may_reduce(cluster: strategies.Cluster) -> bool:
    """Returns whether the tasks are workers that train in step."""
    return set(cluster.jobs) <= {"chief", "worker"} and cluster.num_workers > 1


def _all_reduce(
    cluster: strategies.Cluster,
    meeting: Meeting,
    measured: dict[str, Any],
    say: Callable[[str], None],
) -> list[Finding]:
    if not meeting.is_whole or not meeting.gather("all_reduce"):
        return [
            remark(
                "health",
                "The all-reduce was not measured, because not every task reaches every other.",
                "Cure that first.",
            )
        ]
    say(f"{own_task(cluster)}: starting TensorFlow's cluster for an all-reduce")
    meeting.pause()
    try:
        measured["figures"][health.ALL_REDUCE] = all_reduce_ms(cluster)
    except NoAllReduce as error:
        return [
            problem(
                "health",
                f"TensorFlow's all-reduce failed: {error}.",
                "Read the message; tfscale doctor --peers found no fault between the tasks.",
            )
        ]
    finally:
        meeting.resume()
    return []
