"""Finds a worker whose own work takes clearly longer than that of the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

SLOWER = 1.2
"""A straggler's own work takes at least so many times the median of the others'."""
PART_OF_EPOCH = 0.1
"""It also costs the job at least this fraction of the epoch."""

_NOT_OWN = ("collective", "trace")
"""Phases that are not a worker's own work: waiting, and tracing in the first epoch."""

Seconds = Mapping[str, float]


def straggler_line(epoch: int, workers: Sequence[tuple[str, Seconds]]) -> str | None:
    """Names the slowest worker of an epoch if it is clearly slower than the others.

    In synchronous training all workers take equally long, and the slow one waits least. It is named
    if its own work, all phases but waiting and tracing, is at least 1.2 times the median of the
    others' and at least a tenth of its epoch above it.

    Args:
        epoch: The epoch, from 0.
        workers: Name and seconds by phase of each worker in this epoch.

    Returns:
        A sentence, or None if no worker is clearly slower or there is only one.

    Example:
        >>> fast, slow = {"step": 6.0, "collective": 4.0}, {"step": 6.0, "input": 4.0}
        >>> straggler_line(0, [("worker 0", fast), ("worker 1", slow)]).partition(":")[0]
        'worker 1 is slower'
    """
    if len(workers) < 2:
        return None
    own = [
        sum(s for phase, s in seconds.items() if phase not in _NOT_OWN) for _, seconds in workers
    ]
    slow = max(range(len(own)), key=own.__getitem__)
    usual = statistics.median(own[:slow] + own[slow + 1 :])
    name, seconds = workers[slow]
    if own[slow] < SLOWER * usual or own[slow] - usual < PART_OF_EPOCH * sum(seconds.values()):
        return None
    others = [times for i, (_, times) in enumerate(workers) if i != slow]
    medians = {
        phase: statistics.median(times.get(phase, 0.0) for times in others)
        for phase in seconds
        if phase not in _NOT_OWN
    }
    phase = max(medians, key=lambda phase: seconds[phase] - medians[phase])
    return (
        f"{name} is slower: its own work in epoch {epoch + 1} took {own[slow]:.1f} s, that of the "
        f"others {usual:.1f} s; most of the difference is in {phase}: {seconds[phase]:.1f} s, "
        f"others {medians[phase]:.1f} s."
    )
