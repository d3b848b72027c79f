"""Slurm's notations for counts and ports, and its order of tasks on hosts."""

from __future__ import annotations

import re
from collections.abc import Sequence


def place_tasks(hosts: Sequence[str], counts: Sequence[int], *, stride: int) -> list[str]:
    """Returns the host of every task, in task order.

    In each round every host with room takes up to `stride` tasks. Stride 1 is Slurm's cyclic
    distribution, the largest count is block, and anything between is plane.

    Args:
        hosts: Host names, in Slurm's order.
        counts: Tasks of each host.
        stride: Tasks a host takes at a time. Positive.

    Example:
        >>> place_tasks(["n1", "n2"], [3, 1], stride=1)
        ['n1', 'n2', 'n1', 'n1']
    """
    left = list(counts)
    placement: list[str] = []
    while any(left):
        for index, host in enumerate(hosts):
            taken = min(stride, left[index])
            placement += [host] * taken
            left[index] -= taken
    return placement


def expand_counts(text: str) -> list[int]:
    """Returns the counts of Slurm's run-length notation: "2(x3),1" is [2, 2, 2, 1].

    Raises:
        ValueError: If `text` is not in that notation.
    """
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:\(x([0-9]+)\))?", part)
        if match is None:
            raise ValueError(
                '`SLURM_STEP_TASKS_PER_NODE` must look like "2(x3),1". '
                f"Received: SLURM_STEP_TASKS_PER_NODE={text!r}. Start the program with srun."
            )
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def expand_ports(text: str) -> list[int]:
    """Returns the ports of Slurm's ranges: "12001-12003,12007" is [12001, 12002, 12003, 12007].

    Raises:
        ValueError: If `text` is not in that notation.
    """
    ports: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if match is None:
            raise ValueError(
                '`SLURM_STEP_RESV_PORTS` must look like "12001-12003,12007". '
                f"Received: SLURM_STEP_RESV_PORTS={text!r}. Set TFSCALE_BASE_PORT "
                "instead."
            )
        ports += range(int(match[1]), int(match[2] or match[1]) + 1)
    return ports
