"""What runs side by side have in common and where they differ, as columns of a table."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfscale.report import numbers
from tfscale.report.monitor_page import examples_per_second, utilization
from tfscale.report.monitored import Monitored
from tfscale.report.runs import Run

_LOWER = {
    *("loss", "error", "mse", "mae", "mape", "msle", "rmse", "perplexity", "entropy", "bits"),
    *("crossentropy", "divergence", "nll", "hinge", "logcosh", "poisson"),
}
_HIGHER = {
    *("accuracy", "acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "io", "r2", "bleu"),
    *("score", "similarity", "ndcg", "hits"),
}


@dataclass(frozen=True)
class Column:
    """A value of each run.

    Attributes:
        name: What it is.
        values: Of each run; None where it has none.
        show: Makes a text of a value.
        direction: 1 if the highest value is the best, -1 if the lowest is, else 0.
    """

    name: str
    values: Sequence[Any]
    show: Callable[[Any], str]
    direction: int = 0

    @property
    def cells(self) -> list[str]:
        """The text of each run."""
        return ["-" if value is None else self.show(value) for value in self.values]

    @property
    def best(self) -> list[int]:
        """The places of the best value; none if all runs have it."""
        if not self.direction:
            return []
        found = [value for value in self.values if value is not None and math.isfinite(value)]
        if not found or min(found) == max(found):
            return []
        best = max(found) if self.direction > 0 else min(found)
        return [place for place, value in enumerate(self.values) if value == best]

    @property
    def is_text(self) -> bool:
        """Whether values are written from the left."""
        return any(isinstance(value, str) for value in self.values)


def direction(metric: str) -> int:
    """Returns 1 if a higher value of a metric is better, -1 if a lower one is, 0 if unknown.

    Example:
        >>> direction("val_loss"), direction("test_accuracy"), direction("learning_rate")
        (-1, 1, 0)
    """
    words = set(re.split(r"[\W_]+", metric.lower()))
    return -1 if words & _LOWER else int(bool(words & _HIGHER))


def metrics(runs: Sequence[Run]) -> list[str]:
    """Returns the names of the histories' metrics, in the order in which they come up."""
    return list(dict.fromkeys(name for run in runs for name in run.record.history))


def best_of(run: Run, metric: str) -> float | None:
    """Returns the best value of a metric in the history of a run; None if that is not known."""
    return _best(run.record.history.get(metric, ()), direction(metric))


def result_columns(runs: Sequence[Run]) -> list[Column]:
    """Returns results, last and best values, time, speed and goodput; none that no run has."""
    return [each for each in _result_columns(runs) if any(v is not None for v in each.values)]


def _result_columns(runs: Sequence[Run]) -> Iterator[Column]:
    for name in dict.fromkeys(name for run in runs for name in run.record.results):
        values = [run.record.results.get(name) for run in runs]
        yield Column(numbers.name(name), values, numbers.number, direction(name))
    for name in metrics(runs):
        words, better = numbers.name(name), direction(name)
        histories = [run.record.history.get(name, ()) for run in runs]
        last = [_last(history) for history in histories]
        yield Column(f"{words}, last", last, numbers.number, better)
        if better:
            best = [_best(history, better) for history in histories]
            side = "highest" if better > 0 else "lowest"
            yield Column(f"{words}, {side}", best, numbers.number, better)
    epochs = [max(map(len, run.record.history.values()), default=None) for run in runs]
    yield Column("epochs", epochs, numbers.number)
    yield Column("time", [_seconds(run) for run in runs], numbers.seconds, -1)
    yield Column("examples a second", [_rate(run) for run in runs], numbers.number, 1)
    watched = [newest(run) for run in runs]
    used = [None if each is None else utilization(each) for each in watched]
    yield Column("utilization", used, numbers.percent, 1)
    good = [None if each is None else each.good.ratio for each in watched]
    yield Column("effective training time", good, numbers.percent, 1)
    starts = [None if each is None else each.good.starts for each in watched]
    yield Column("starts", starts, numbers.number)


def differing(tables: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Returns the settings that are not equal in all runs.

    Args:
        tables: Of each run, by name.
    """
    return [
        Column(name, [numbers.setting(t[name]) if _has(t, name) else None for t in tables], str)
        for name in dict.fromkeys(name for table in tables for name in table)
        if not _is_equal(tables, name)
    ]


def equal(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the settings that all runs have, with one value."""
    return {name: value for name, value in tables[0].items() if _is_equal(tables, name)}


def newest(run: Run) -> Monitored | None:
    """Returns what Monitor wrote last of a run, or None."""
    return max(
        run.monitors,
        key=lambda each: max(fits[-1].last["time"] for fits in each.fits.values()),
        default=None,
    )


def _is_equal(tables: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(name in table and table[name] == tables[0].get(name) for table in tables)


def _has(table: Mapping[str, Any], name: str) -> bool:
    return table.get(name) not in (None, "")


def _known(history: Sequence[float | None]) -> list[float]:
    return [value for value in history if value is not None]


def _last(history: Sequence[float | None]) -> float | None:
    known = _known(history)
    return known[-1] if known else None


def _best(history: Sequence[float | None], better: int) -> float | None:
    finite = [value for value in _known(history) if math.isfinite(value)]
    if not finite or not better:
        return None
    return max(finite) if better > 0 else min(finite)


def _seconds(run: Run) -> float | None:
    watched = newest(run)
    if run.record.timing.total_seconds is None and watched is not None:
        return watched.good.total
    return run.record.timing.total_seconds


def _rate(run: Run) -> float | None:
    timing, watched = run.record.timing, newest(run)
    if watched is not None:
        return examples_per_second(watched)
    if timing.seconds_per_step and timing.global_batch_size:
        return timing.global_batch_size / timing.seconds_per_step
    return None
