"""What this host lets a process use: processors, memory, open files, processes, locked memory."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfscale.doctor.finding import Finding, problem, remark
from tfscale.files.control_groups import (
    cpu_quota,
    groups_of,
    memory_limit,
    processes_left,
    text_of,
)
from tfscale.files.room import free_memory, megabytes

FEWEST_OPEN_FILES, GOOD_OPEN_FILES = 512, 4096
LEAST_MEMORY = 10**9
"""Bytes. `import tensorflow` and one small model take about half of it."""
FEWEST_PROCESSES = 512
"""TensorFlow, gRPC and an input pipeline start some threads per processor, and hundreds in all."""
UNEVEN = 4
"""So many times the processors of the quota, as threads, are a problem."""

_THREADS = "TF_NUM_INTRAOP_THREADS"


def limits_of_process() -> dict[str, int | None]:
    """Returns the soft limits of this process (`ulimit`); None means unlimited.

    Empty on systems without them.
    """
    try:
        import resource  # POSIX only
    except ImportError:
        return {}
    names = {
        "open_files": "RLIMIT_NOFILE",
        "processes": "RLIMIT_NPROC",
        "core_file_bytes": "RLIMIT_CORE",
        "locked_memory_bytes": "RLIMIT_MEMLOCK",
        "address_space_bytes": "RLIMIT_AS",
    }
    found: dict[str, int | None] = {}
    for name, constant in names.items():
        if hasattr(resource, constant):
            soft, _ = resource.getrlimit(getattr(resource, constant))
            found[name] = None if soft == resource.RLIM_INFINITY else soft
    return found


def host_facts(
    root: Path = Path("/"), limits: Mapping[str, int | None] | None = None
) -> dict[str, Any]:
    """Returns what this host has and what it limits, as JSON values.

    Args:
        root: Folder with `proc` and `sys`.
        limits: See `limits_of_process`. None means those of this process.

    Example:
        >>> host_facts()["cpus"]["seen"] == os.cpu_count()
        True
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpus": {"seen": os.cpu_count(), "usable": usable, "quota": cpu_quota(root)},
        "memory": {"free_bytes": free_memory(root), "limit_bytes": memory_limit(root)},
        "limits": dict(limits_of_process() if limits is None else limits),
        "processes_left": processes_left(root),
        "killed_for_memory": _killed_for_memory(root),
        "infiniband": [path.name for path in sorted(root.glob("sys/class/infiniband/*"))],
    }


def examine_host(facts: Mapping[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    """Judges what a host has.

    Args:
        facts: See `host_facts`.
        environ: The environment of the process.
    """
    return [
        *_of_processors(facts["cpus"], environ),
        *_of_memory(facts),
        *_of_limits(facts["limits"], facts["infiniband"]),
        *_of_processes(facts["processes_left"]),
    ]


def _of_processors(cpus: Mapping[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    seen, usable, quota = cpus["seen"], cpus["usable"], cpus["quota"]
    if quota is not None and quota < 1:
        return [
            problem(
                "host",
                f"The quota of this control group is {quota:g} of a processor; {usable} are seen.",
                "Give the job at least one processor: --cpus-per-task in Slurm, the limit cpu in "
                "Kubernetes, --cpus in Docker.",
            )
        ]
    if quota is not None and quota < usable:
        setting = environ.get(_THREADS, "")
        threads = int(setting) if re.fullmatch(r"[1-9][0-9]{0,6}", setting) else usable
        if threads <= quota + 1:
            return []
        finding = problem if threads >= UNEVEN * quota else remark
        whole = max(1, int(quota))
        return [
            finding(
                "host",
                f"{usable} processors are seen, but the quota of this control group is {quota:g}: "
                f"TensorFlow starts {threads} threads, which the kernel stops in turns.",
                f"Set {_THREADS}={whole} and TF_NUM_INTEROP_THREADS={whole}, or raise the quota.",
            )
        ]
    if usable is not None and seen is not None and usable < seen:
        return [
            remark(
                "host",
                f"This process may use {usable} of {seen} processors (its affinity).",
                "If it should use more, change --cpus-per-task, --cpu-bind or taskset.",
            )
        ]
    return []


def _of_memory(facts: Mapping[str, Any]) -> list[Finding]:
    findings = []
    free, limit = facts["memory"]["free_bytes"], facts["memory"]["limit_bytes"]
    if free is not None and free < LEAST_MEMORY:
        of_group = (
            "" if limit is None else f" (the limit of this control group: {megabytes(limit)})"
        )
        findings.append(
            problem(
                "host",
                f"Only {megabytes(free)} of memory is free{of_group}; TensorFlow alone needs about "
                "0.5 GB.",
                "End other programs, or ask the scheduler for more memory.",
            )
        )
    if facts["killed_for_memory"]:
        findings.append(
            remark(
                "host",
                f"The kernel has killed {facts['killed_for_memory']} processes of this control "
                "group for lack of memory.",
                "Ask for more memory, or compute what the model needs by tfscale plan.",
            )
        )
    return findings


def _of_limits(limits: Mapping[str, int | None], infiniband: list[str]) -> list[Finding]:
    findings = []
    files = limits.get("open_files")
    if files is not None and files < GOOD_OPEN_FILES:
        finding = problem if files < FEWEST_OPEN_FILES else remark
        findings.append(
            finding(
                "host",
                f"This process may have {files} open files (ulimit -n); each data file, socket and "
                "worker takes some.",
                f"Run ulimit -n {GOOD_OPEN_FILES} before the job, or raise nofile in "
                "/etc/security/limits.conf.",
            )
        )
    processes = limits.get("processes")
    if processes is not None and processes < FEWEST_PROCESSES:
        findings.append(
            problem(
                "host",
                f"This user may have {processes} processes and threads (ulimit -u).",
                "Raise it by ulimit -u, or nproc in /etc/security/limits.conf.",
            )
        )
    locked = limits.get("locked_memory_bytes")
    if infiniband and locked is not None:
        findings.append(
            problem(
                "host",
                f"This process may lock {megabytes(locked)} of memory (ulimit -l), but "
                f"{', '.join(infiniband)} (InfiniBand) registers buffers in locked memory.",
                "Set memlock to unlimited in /etc/security/limits.conf, or for the daemon that "
                "starts jobs (slurmd, containerd).",
            )
        )
    space = limits.get("address_space_bytes")
    if space is not None:
        findings.append(
            remark(
                "host",
                f"The address space is limited to {megabytes(space)} (ulimit -v); TensorFlow "
                "reserves much more than it uses.",
                "Run ulimit -v unlimited, and limit memory by a control group instead.",
            )
        )
    if limits.get("core_file_bytes") == 0:
        findings.append(
            remark(
                "host",
                "A crash in native code leaves no core file (ulimit -c is 0).",
                "To look into such a crash, run ulimit -c unlimited before the job.",
            )
        )
    return findings


def _of_processes(left: int | None) -> list[Finding]:
    if left is None or left >= FEWEST_PROCESSES:
        return []
    return [
        problem(
            "host",
            f"Only {left} more processes and threads may start in this control group (pids.max).",
            "Raise the limit: --pids-limit in Docker, podPidsLimit in Kubernetes, TasksMax in "
            "systemd.",
        )
    ]


def _killed_for_memory(root: Path) -> int:
    names = {1: "memory.oom_control", 2: "memory.events"}
    for group, version in groups_of("memory", root):
        found = re.search(r"^oom_kill (\d+)$", text_of(group / names[version]), re.MULTILINE)
        if found:
            return int(found[1])  # of the process's own group, the first
    return 0
