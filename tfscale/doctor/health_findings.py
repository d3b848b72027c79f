"""Judges what the check of health has measured: against thresholds, and worker against worker."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfscale.doctor.finding import Finding, problem
from tfscale.doctor.health import ALL_REDUCE, DISK_READ, DISK_WRITE, MATMUL, MEMORY, UNITS

SLOW = 0.5
"""A worker below this part of the median of all workers is a problem."""

_CURES = {
    MATMUL: "Look for other programs, a quota of processors, or a device that is hot (nvidia-smi).",
    MEMORY: "Look for other programs, or swapping.",
    DISK_WRITE: "Choose a folder on a faster disk, or look for what else uses it (iostat).",
    DISK_READ: "Choose a folder on a faster disk, or look for what else uses it (iostat).",
}


@dataclass(frozen=True)
class Thresholds:
    """What a job needs. None of them: figures are only reported.

    Attributes:
        min_matmul_gflops: Of each device, in 10^9 operations a second.
        min_disk_mb_per_s: Of writing and of reading, in 10^6 bytes a second.
        max_all_reduce_ms: Of 1 MiB between all workers.
    """

    min_matmul_gflops: float | None = None
    min_disk_mb_per_s: float | None = None
    max_all_reduce_ms: float | None = None


def examine_health(
    figures: Mapping[str, float], thresholds: Thresholds, devices: Mapping[str, float]
) -> list[Finding]:
    """Compares figures of this host with thresholds.

    Args:
        figures: By name; see `health`.
        thresholds: What the job needs.
        devices: The figure of each device, by its name.
    """
    findings = []
    least = thresholds.min_matmul_gflops
    for device, found in devices.items():
        if least is not None and found < least:
            findings.append(_below(MATMUL, f"{device}: ", found, "min_matmul_gflops", least))
    least = thresholds.min_disk_mb_per_s
    for name in (DISK_WRITE, DISK_READ):
        if least is not None and name in figures and figures[name] < least:
            findings.append(_below(name, "", figures[name], "min_disk_mb_per_s", least))
    most = thresholds.max_all_reduce_ms
    if most is not None and ALL_REDUCE in figures and figures[ALL_REDUCE] > most:
        findings.append(
            problem(
                "health",
                f"An all-reduce of 1 MiB takes {figures[ALL_REDUCE]:.3g} ms; "
                f"--max_all_reduce_ms={most:g}.",
                "Look for another network between the hosts (NCCL_SOCKET_IFNAME, addresses of the "
                "cluster), or for a worker with few processors.",
            )
        )
    return findings


def compare_workers(
    figures: Mapping[str, Any], task: str, machines: Mapping[str, str]
) -> list[Finding]:
    """Finds workers that are slower than the others.

    Workers of one machine share its memory and disk, so only the first of them is compared.

    Args:
        figures: The figures of each worker by its name, some of which came from other processes.
        task: The task of this process.
        machines: The machine of each worker by its name, as far as it is known.
    """
    return list(_slow(figures, task, set(first_of_each(machines))))


def first_of_each(machines: Mapping[str, str]) -> list[str]:
    """Returns the first worker of each machine.

    Example:
        >>> first_of_each({"worker 0": "a", "worker 1": "a", "worker 2": "b"})
        ['worker 0', 'worker 2']
    """
    first: dict[str, str] = {}
    for worker, machine in machines.items():
        first.setdefault(machine, worker)
    return list(first.values())


def _slow(figures: Mapping[str, Any], task: str, first: set[str]) -> Iterator[Finding]:
    for name, cure in _CURES.items():
        what, unit = UNITS[name]
        known = {
            worker: float(found[name])
            for worker, found in figures.items()
            if isinstance(found, dict) and _is_number(found.get(name))
            if name == MATMUL or worker in first
        }
        if len(known) < 2:
            continue
        middle = statistics.median(known.values())
        for worker, found in known.items():
            if found < SLOW * middle:
                here = " (this task)" if worker == task else ""
                yield problem(
                    "health",
                    f"{worker}{here} is slow: {what} at {found:.3g} {unit}, and the median of "
                    f"{len(known)} workers is {middle:.3g}.",
                    cure,
                )


def _below(name: str, where: str, found: float, flag: str, least: float) -> Finding:
    what, unit = UNITS[name]
    return problem(
        "health", f"{where}{what} at {found:.3g} {unit}; --{flag}={least:g}.", _CURES[name]
    )


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
