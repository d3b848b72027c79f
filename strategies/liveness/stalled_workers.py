"""Who holds up a job: the one that is behind, not those that wait for it."""

from __future__ import annotations

from collections.abc import Sequence

from strategies.liveness.heartbeat import Seen


def stalled_workers(workers: Sequence[Seen], seconds: float) -> list[int]:
    """Returns the places of the workers that the others wait for, in order; none if all is well.

    A worker stands still that has not moved for `seconds`. Of those,

    1. who does not answer is to blame;
    2. else who is not at a meeting with the others, and of these the furthest behind;
    3. else all wait: for those whose `fit` has ended, or else the furthest behind. As long as one
       other still moves, they wait for that one, and all is well.

    Args:
        workers: All of them.
        seconds: Positive.
    """
    standing = {i: seen for i, seen in enumerate(workers) if _stands(seen, seconds)}
    silent = [i for i, seen in standing.items() if seen.is_silent]
    if silent:
        return silent
    at_work = {i: seen for i, seen in standing.items() if not seen.is_waiting}
    if at_work:
        return _furthest_behind(at_work)
    over = [i for i, seen in enumerate(workers) if seen.is_over]
    if not standing or len(standing) + len(over) < len(workers):
        return []
    return over or _furthest_behind(standing)


def _stands(seen: Seen, seconds: float) -> bool:
    return not seen.is_over and seen.still >= seconds


def _furthest_behind(workers: dict[int, Seen]) -> list[int]:
    def count(seen: Seen) -> tuple[int, int, int]:
        place = seen.heartbeat.place if seen.heartbeat else None
        return (place.epoch, place.step, place.batch or 0) if place else (-1, 0, 0)

    least = min(map(count, workers.values()))
    return [i for i, seen in workers.items() if count(seen) == least]
