"""Finds the workers that block a job: those that are behind, not those that wait for them.

`stalled_workers` asks for the whole job, after a deadline; `blocking_workers` asks for one worker
that waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from strategies.liveness.heartbeat import Heartbeat, ObservedWorker

NO_ANSWER_SECONDS = 8.0
"""To a worker that waits, one without a heartbeat for this long does not answer. It sends one each
second, if its Python runs at all."""

_MAY_WAIT = ("step", "trace", "evaluate", "predict")
"""A step compiled by XLA has no marks, so it is not known whether it waits."""


def stalled_workers(workers: Sequence[ObservedWorker], seconds: float) -> list[int]:
    """Returns the indices of the workers that the others wait for, in order; [] if none stalls.

    A worker is still if it has not moved for `seconds`. Of those that are still,

    1. the ones that do not answer;
    2. else the ones that do not wait for the others, and of these the furthest behind;
    3. else all wait: for those whose `fit` has ended, or else the furthest behind. As long as
       another worker moves, they wait for that one, and the result is [].

    Args:
        workers: All of them.
        seconds: Positive.
    """
    still = [i for i, seen in enumerate(workers) if not seen.is_over and seen.still >= seconds]
    silent = [i for i in still if workers[i].is_silent]
    if silent:
        return silent
    at_work = [i for i in still if not workers[i].is_waiting]
    if at_work:
        return _furthest_behind(workers, at_work)
    over = [i for i, seen in enumerate(workers) if seen.is_over]
    if not still or len(still) + len(over) < len(workers):
        return []
    return over or _furthest_behind(workers, still)


def gives_no_answer(seen: ObservedWorker) -> bool:
    """Returns whether a heartbeat of a worker is overdue, for one that waits for it."""
    return not seen.is_over and seen.age >= NO_ANSWER_SECONDS


def blocking_workers(workers: Sequence[ObservedWorker], own: int) -> list[int]:
    """Returns the indices of the workers that this one waits for, in order; [] if it does not wait.

    Of the others,

    1. those that do not answer;
    2. else those that do not wait for other workers, and of these the furthest behind;
    3. else all wait: for those whose program has ended, or else for those that are behind this one,
       or at another rendezvous, or for each other.

    It does not matter whether the others move: it is enough that this one waits.

    Args:
        workers: All of them.
        own: The index of this worker.
    """
    this = workers[own]
    others = [i for i in range(len(workers)) if i != own]
    if this.heartbeat is None or not _may_wait(this):
        return []
    silent = [i for i in others if gives_no_answer(workers[i])]
    if silent:
        return silent
    running = [i for i in others if workers[i].heartbeat is not None and not workers[i].is_over]
    at_work = [i for i in running if not workers[i].is_waiting]
    if not this.is_waiting:
        at_work = [i for i in running if _count(workers[i].heartbeat) < _count(this.heartbeat)]
    if at_work:
        return _furthest_behind(workers, at_work)
    over = [i for i in others if workers[i].is_over]
    if over or not this.is_waiting:
        return over
    behind = _furthest_behind(workers, [*running, own])
    if own not in behind:
        return behind
    elsewhere = [i for i in running if _question(workers[i]) != _question(this)]
    return elsewhere or running


def is_behind(workers: Sequence[ObservedWorker], own: int, others: Sequence[int]) -> bool:
    """Returns whether others wait for this worker, which is at another rendezvous."""
    this = workers[own]
    return bool(_question(this)) and all(
        workers[i].is_waiting
        and not gives_no_answer(workers[i])
        and _question(workers[i]) != _question(this)
        and _count(workers[i].heartbeat) >= _count(this.heartbeat)
        for i in others
    )


def _may_wait(seen: ObservedWorker) -> bool:
    heartbeat = seen.heartbeat
    return heartbeat is not None and (seen.is_waiting or heartbeat.place.phase in _MAY_WAIT)


def _question(seen: ObservedWorker) -> str:
    return seen.heartbeat.question if seen.heartbeat else ""


def _furthest_behind(workers: Sequence[ObservedWorker], indices: Iterable[int]) -> list[int]:
    counts = {i: _count(workers[i].heartbeat) for i in indices}
    return [i for i, count in counts.items() if count == min(counts.values())]


def _count(heartbeat: Heartbeat | None) -> tuple[int, int, int]:
    if heartbeat is None or heartbeat.place.phase == "outside":
        return (-1, 0, 0)
    place = heartbeat.place
    return (place.epoch, place.step, place.batch or 0)
