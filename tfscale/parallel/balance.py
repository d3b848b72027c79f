"""Where to cut a line of operations so that the largest part is as small as possible."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

SLACK = 1.05
"""A cut may take this much more time than the fastest one, for a smaller memory."""


def balanced_places(
    times: Sequence[float], memories: Sequence[float], allowed: Sequence[int], parts: int
) -> list[int] | None:
    """Returns where parts begin, but for the first, or None if it cannot be cut so often.

    Of all cuts into `parts` runs the largest time is within `SLACK` of the smallest possible, and
    the largest memory is the smallest with such times.

    Args:
        times: By operation, in any unit.
        memories: By operation, in any unit.
        allowed: Places that may begin a part, ascending, from 1 to the number of operations - 1.
        parts: Positive.

    Example:
        >>> balanced_places([1, 1, 1, 3], [1, 1, 1, 1], allowed=[1, 2, 3], parts=2)
        [3]
    """
    edges = [0, *allowed, len(times)]
    if parts > len(edges) - 1:
        return None
    time, memory = _between(times), _between(memories)
    fastest, _ = _smallest_maximum(edges, parts, time)
    limit = fastest * SLACK

    def memory_in_time(begin: int, end: int) -> float:
        return memory(begin, end) if time(begin, end) <= limit else float("inf")

    _, places = _smallest_maximum(edges, parts, memory_in_time)
    return places


def _between(costs: Sequence[float]) -> Callable[[int, int], float]:
    sums = [0.0]
    for cost in costs:
        sums.append(sums[-1] + cost)
    return lambda begin, end: sums[end] - sums[begin]


def _smallest_maximum(
    edges: Sequence[int], parts: int, cost: Callable[[int, int], float]
) -> tuple[float, list[int]]:
    """Cuts the edges into parts whose largest cost is smallest, by dynamic programming."""

    @functools.cache
    def best(end: int, count: int) -> tuple[float, int]:
        if count == 1:
            return cost(edges[0], edges[end]), 0
        return min(
            (max(best(begin, count - 1)[0], cost(edges[begin], edges[end])), begin)
            for begin in range(count - 1, end)
        )

    found: list[int] = []
    end = len(edges) - 1
    largest = best(end, parts)[0]
    for count in range(parts, 1, -1):
        end = best(end, count)[1]
        found.insert(0, edges[end])
    return largest, found
