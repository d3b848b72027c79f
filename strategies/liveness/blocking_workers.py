"""For whom a worker waits: those that are not where it is, the furthest behind of them."""

from __future__ import annotations

from collections.abc import Sequence

from strategies.liveness.heartbeat import Heartbeat, Seen

SILENT_SECONDS = 8.0
"""A worker that says nothing for so long does not answer; it speaks once a second, where its own
Python runs at all."""

_MAY_WAIT = ("step", "trace", "evaluate", "predict")
"""In a step that XLA compiles there are no marks: whether it waits is not known."""


def is_silent(seen: Seen) -> bool:
    """Tells whether a worker should have spoken since."""
    return not seen.is_over and seen.age >= SILENT_SECONDS


def blocking_workers(workers: Sequence[Seen], own: int) -> list[int]:
    """Returns the places of the workers that this one waits for, in order; none if it does not.

    Of the others,

    1. those that do not answer;
    2. else those that are not at a meeting of workers, and of these the furthest behind;
    3. else all wait: for those whose program has ended, or else for those that are behind this one,
       or at another meeting, or for each other.

    Whether the others move is not asked: it is enough that this one waits.

    Args:
        workers: All of them.
        own: The place of this worker among them.
    """
    this = workers[own]
    others = [i for i in range(len(workers)) if i != own]
    if this.heartbeat is None or not _may_wait(this):
        return []
    silent = [i for i in others if is_silent(workers[i])]
    if silent:
        return silent
    there = [i for i in others if workers[i].heartbeat is not None and not workers[i].is_over]
    at_work = [i for i in there if not workers[i].is_waiting]
    if not this.is_waiting:
        at_work = [i for i in there if _count(workers[i].heartbeat) < _count(this.heartbeat)]
    if at_work:
        return _furthest_behind(workers, at_work)
    over = [i for i in others if workers[i].is_over]
    if over or not this.is_waiting:
        return over
    behind = _furthest_behind(workers, [*there, own])
    if own not in behind:
        return behind
    elsewhere = [i for i in there if _question(workers[i]) != _question(this)]
    return elsewhere or there


def is_behind(workers: Sequence[Seen], own: int, others: Sequence[int]) -> bool:
    """Tells whether others wait for this worker, which is at a meeting that they are not at."""
    this = workers[own]
    return bool(_question(this)) and all(
        workers[i].is_waiting
        and not is_silent(workers[i])
        and _question(workers[i]) != _question(this)
        and _count(workers[i].heartbeat) >= _count(this.heartbeat)
        for i in others
    )


def _may_wait(seen: Seen) -> bool:
    heartbeat = seen.heartbeat
    return heartbeat is not None and (seen.is_waiting or heartbeat.place.phase in _MAY_WAIT)


def _question(seen: Seen) -> str:
    return seen.heartbeat.question if seen.heartbeat else ""


def _furthest_behind(workers: Sequence[Seen], places: Sequence[int]) -> list[int]:
    least = min(_count(workers[i].heartbeat) for i in places)
    return [i for i in places if _count(workers[i].heartbeat) == least]


def _count(heartbeat: Heartbeat | None) -> tuple[int, int, int]:
    if heartbeat is None or heartbeat.place.phase == "outside":
        return (-1, 0, 0)
    place = heartbeat.place
    return (place.epoch, place.step, place.batch or 0)
