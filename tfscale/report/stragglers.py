"""A worker that the others wait for: which one, by how much, and since when."""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfscale.report.monitor_columns import Columns

OWN_WORK = ("compute", "input_wait", "callbacks")
"""Phases in which a worker does not wait for another one."""

_MOST_PARTS = 60
_LONGER = 1.1
_WAITING = 0.05
"""A part counts if the worker's own work takes 1.1 times that of the others, and they wait for it
for more than 5 % of its time."""
_LOST = 0.01
"""Of the time of the run: what the others waited in a stretch, at least, to be worth a sentence."""
_TIMES, _TIMES_OF_LARGEST = 3.0, 2.0
_FEWEST_ELSEWHERE, _SHORT = 5, 1 / 5
"""A stretch stands out if the worker's own work exceeds that of the others by three times what any
worker's does in stretches of this length elsewhere in the run (the root mean square); a stretch
shorter than a fifth of the run, by twice the largest of them, because bursts of noise are short.
If there are fewer than five, it is compared with single parts if it is short itself, and else its
mean has to be three standard errors of its parts."""
_FEW_PARTS = 6
"""Fewer slow parts than these follow each other by chance."""
_ALIKE = 1 / 2
"""A worker that is slow again and again: those of its stretches that exceed half of its largest
stand out together, if they are three times all that the median of the other workers exceeds."""


@dataclass(frozen=True)
class Straggler:
    """A stretch in which the others waited for a worker.

    Attributes:
        worker: Its index.
        first: The step after which it began; the resolution is a 60th of the run.
        last: The step at which it ended.
        is_over: Whether it ended before the run did.
        seconds: Of its own work a step.
        others: The same of the median of the other workers.
        phase: The phase that takes so much longer.
        waited: Seconds that the others waited, the mean of them.
    """

    worker: int
    first: float
    last: float
    is_over: bool
    seconds: float
    others: float
    phase: str
    waited: float


class Cumulated:
    """Sums of a column up to a step, by lines from one place to the next.

    Args:
        places: Ascending: where each line ends.
        begins: Where the first one begins.
        values: What each line adds.
    """

    def __init__(self, places: Sequence[float], begins: float, values: Sequence[float]) -> None:
        self._places = [begins, *places]
        self._sums = list(itertools.accumulate(values, initial=0.0))

    def at(self, place: float) -> float:
        """Returns the sum up to a place."""
        after = bisect.bisect_left(self._places, place)
        if after == 0:
            return 0.0
        if after == len(self._places):
            return self._sums[-1]
        low, high = self._places[after - 1], self._places[after]
        part = (place - low) / (high - low) if high > low else 1.0
        return self._sums[after - 1] + part * (self._sums[after] - self._sums[after - 1])

    def between(self, edges: Sequence[float]) -> list[float]:
        """Returns what is added from each place to the next."""
        sums = [self.at(edge) for edge in edges]
        return [end - start for start, end in itertools.pairwise(sums)]


def stragglers(workers: Mapping[int, Columns]) -> list[Straggler]:
    """Returns the workers that others waited for, the longest wait first.

    Only where they lost 1 % of the run's time or more, and the worker differs by more than workers
    do all the time.

    Args:
        workers: The lines of each worker, by its index. Compiling, evaluation and checkpoints do
            not count.
    """
    measured = {index: each for index, each in workers.items() if len(each.positions())}
    if len(measured) < 2:
        return []
    begin = max(each.positions()[0] for each in measured.values())
    end = min(each.positions()[-1] for each in measured.values())
    parts = min(_MOST_PARTS, *(len(each.positions()) for each in measured.values()))
    if end <= begin:
        return []
    edges = [begin + (end - begin) * part / parts for part in range(parts + 1)]
    spent = {index: _spent(each, edges) for index, each in measured.items()}
    more = {index: [_longer(spent, index, part) for part in range(parts)] for index in measured}
    whole = statistics.mean(_whole(each) for each in spent.values())
    found = []
    for index in measured:
        runs = _runs([_is_slow(spent, index, part) for part in range(parts)])
        again = _slow_again(more, index, runs)
        for run in runs:
            each = _straggler(spent, index, edges, run)
            stands_out = run in again or _stands_out(more, index, run)
            if stands_out and each.waited >= _LOST * whole:
                found.append(each)
    return sorted(found, key=lambda straggler: -straggler.waited)


def _spent(columns: Columns, edges: Sequence[float]) -> dict[str, list[float]]:
    places = columns.positions()
    begins = places[0] - columns.of_kept("steps")[0]
    return {
        phase: Cumulated(places, begins, columns.of_kept(f"phases/{phase}")).between(edges)
        for phase in (*OWN_WORK, "communication")
    }


def _own(spent: Mapping[str, Sequence[float]], part: int) -> float:
    return sum(spent[phase][part] for phase in OWN_WORK)


def _is_slow(spent: Mapping[int, Mapping[str, Sequence[float]]], worker: int, part: int) -> bool:
    others = [each for index, each in spent.items() if index != worker]
    own, waited = _own(spent[worker], part), spent[worker]["communication"][part]
    longer = statistics.median(_own(each, part) for each in others)
    waiting = statistics.mean(each["communication"][part] for each in others) - waited
    return own > _LONGER * longer and waiting > _WAITING * (own + waited)


def _whole(spent: Mapping[str, Sequence[float]]) -> float:
    return sum(sum(seconds) for seconds in spent.values())


def _longer(spent: Mapping[int, Mapping[str, Sequence[float]]], worker: int, part: int) -> float:
    """Returns by how much a worker's own work takes longer than the others', in seconds."""
    others = [_own(each, part) for index, each in spent.items() if index != worker]
    return _own(spent[worker], part) - statistics.median(others)


def _slow_again(
    more: Mapping[int, Sequence[float]], worker: int, runs: Sequence[range]
) -> Sequence[range]:
    """Returns the stretches of a worker that stand out together, which none has to do alone."""
    sums = [sum(more[worker][part] for part in run) for run in runs]
    alike = [run for run, own in zip(runs, sums, strict=True) if own > _ALIKE * max(sums)]
    together = sum(own for own in sums if own > _ALIKE * max(sums))
    others = statistics.median(
        sum(max(0.0, excess) for excess in own) for index, own in more.items() if index != worker
    )
    is_long = sum(map(len, alike)) >= _FEW_PARTS
    return alike if is_long and together > _TIMES * others else []


def _stands_out(more: Mapping[int, Sequence[float]], worker: int, run: range) -> bool:
    """Returns whether a stretch is more than what workers differ by all the time."""
    size = len(run)
    here = [more[worker][part] for part in run]
    elsewhere = _elsewhere(more, run, size)
    if len(elsewhere) >= _FEWEST_ELSEWHERE:
        is_short = size < max(_FEW_PARTS, _SHORT * len(more[worker]))
        largest = max(elsewhere) if is_short else 0.0
        return sum(here) > max(_TIMES * _noise(elsewhere), _TIMES_OF_LARGEST * largest)
    parts = _elsewhere(more, run, 1)
    if size < _FEW_PARTS and len(parts) >= _FEWEST_ELSEWHERE:
        return statistics.mean(here) > max(_TIMES * _noise(parts), _TIMES_OF_LARGEST * max(parts))
    if size < 2:
        return False
    return statistics.mean(here) > _TIMES * statistics.stdev(here) / math.sqrt(size)


def _elsewhere(more: Mapping[int, Sequence[float]], run: range, size: int) -> list[float]:
    """Returns by how much workers exceed the others in stretches of a length outside of a run."""
    return [
        max(0.0, sum(own[first : first + size]))
        for own in more.values()
        for side in (range(run.start), range(run.stop, len(own)))
        for first in range(side.start, side.stop - size + 1, size)
    ]


def _noise(elsewhere: Sequence[float]) -> float:
    return math.sqrt(statistics.mean(excess**2 for excess in elsewhere))


def _runs(slow: Sequence[bool]) -> list[range]:
    """Returns the runs of slow parts; a single quick one between two of them belongs to them."""
    runs: list[range] = []
    for part in (part for part, is_slow in enumerate(slow) if is_slow):
        if runs and part - runs[-1].stop <= 1:
            runs[-1] = range(runs[-1].start, part + 1)
        else:
            runs.append(range(part, part + 1))
    return [run for run in runs if len(run) > 1 or len(slow) < 4]


def _straggler(
    spent: Mapping[int, Mapping[str, Sequence[float]]],
    worker: int,
    edges: Sequence[float],
    run: range,
) -> Straggler:
    others = [each for index, each in spent.items() if index != worker]
    steps = edges[run.stop] - edges[run.start]

    def of(each: Mapping[str, Sequence[float]], *phases: str) -> float:
        return sum(each[phase][part] for phase in phases for part in run)

    def more(phase: str) -> float:
        return of(spent[worker], phase) - statistics.median(of(each, phase) for each in others)

    waited = statistics.mean(of(each, "communication") for each in others)
    return Straggler(
        worker=worker,
        first=edges[run.start],
        last=edges[run.stop],
        is_over=run.stop < len(edges) - 1,
        seconds=of(spent[worker], *OWN_WORK) / steps,
        others=statistics.median(of(each, *OWN_WORK) for each in others) / steps,
        phase=max(OWN_WORK, key=more),
        waited=max(0.0, waited - of(spent[worker], "communication")),
    )
