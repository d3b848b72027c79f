"""A worker that is slower than the others, by the time of its own work."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

SLOWER = 1.2
"""A straggler's own work takes so many times the median of the others'."""
PART_OF_EPOCH = 0.1
"""And it costs the job at least this part of the epoch."""

_NOT_OWN = ("collective", "trace")
"""Waiting for others, and what only the first epoch has."""

Seconds = Mapping[str, float]


def straggler_line(epoch: int, workers: Sequence[tuple[str, Seconds]]) -> str | None:
    """Names the slowest worker of an epoch if it is markedly slower than the others.

    In step, all workers take equally long; the slow one is who waits least. It is named where its
    own work, all phases but waiting and tracing, is at least 1.2 times the median of the others'
    and at least a tenth of its epoch above it.

    Args:
        epoch: From 0.
        workers: Each one's name and its seconds by phase in this epoch.

    Returns:
        A line, or None where nobody is slow or there is one worker only.

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
        f"{name} is slower: epoch {epoch + 1} took {own[slow]:.1f} s of its own work, {usual:.1f} "
        f"s of the others'; most in {phase}: {seconds[phase]:.1f} s, others {medians[phase]:.1f} s."
    )
