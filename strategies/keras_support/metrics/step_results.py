"""Results of metrics in a step's logs, under any name that the step gives them.

A `train_step` may return `{"loss": total_tracker.result()}`, of a tracker named "total" or of one
that the model does not list. On one device the log is that metric's running result; on replicas it
is the result of the combined state. So while a step is traced, the results that metrics return are
remembered, and recognised in the logs that the step returns.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.step_context import current_step
from strategies.keras_support.metrics.logs import Path, flat_logs


class StepResults:
    """Which logs of a step are results of metrics.

    Args:
        model: A compiled model under a strategy of this package.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._metrics: dict[Path, tuple[Any, Path]] = {}
        self._handed_out: dict[int, tuple[Any, Any, Path]] = {}
        self._followed: list[Any] = []
        self._is_following = False

    def __contains__(self, path: Path) -> bool:
        """Tells whether the log at `path` is a metric's result."""
        return path in self._metrics

    @property
    def variables(self) -> list[Any]:
        """The variables of those metrics that the model does not list."""
        listed = {id(v) for v in self._model.metrics_variables}
        found = {id(v): v for metric, _ in self._metrics.values() for v in metric.variables}
        return [v for key, v in found.items() if key not in listed]

    def values(self) -> dict[Path, Any]:
        """Returns the current results of the metrics, by the paths of the logs."""
        results = {id(metric): _flat(metric.result()) for metric, _ in self._metrics.values()}
        return {
            path: tf.convert_to_tensor(results[id(metric)][part])
            for path, (metric, part) in self._metrics.items()
        }

    def noted(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Returns `step`, a replica's, whose logs are looked through for results of metrics."""

        @functools.wraps(step)
        def noted_step(data: Any) -> Any:
            context = current_step()
            if context is not None and self._is_following:
                context.results = self
            logs = step(data)
            for path, value in flat_logs(logs).items() if isinstance(logs, Mapping) else ():
                known = self._handed_out.get(id(value))
                if known is not None and known[0] is value:
                    self._metrics[path] = known[1:]
            return logs

        return noted_step

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Remembers the results that the model's metrics return inside, on all replicas."""
        for metric in self._model.metrics:
            for part in getattr(metric, "metrics", None) or [metric]:  # compile keeps them in one
                self.follow(part)
        self._is_following = True
        try:
            yield
        finally:
            self._is_following = False
            for metric in self._followed:
                vars(metric).pop("result", None)
            self._followed.clear()
            self._handed_out.clear()

    def follow_unlisted(self, metric: Any) -> None:
        """Follows a metric that is being updated, and perhaps is not one of the model's.

        Where the replica has no examples, what the stand-in row adds is undone.
        """
        step = current_step()
        self.follow(metric)
        listed = {id(v) for v in self._model.metrics_variables}
        variables = [v for v in metric.variables if id(v) not in listed]
        if step is not None and id(metric) not in step.trackers and variables:
            values = [(v, tf.identity(v.value)) for v in variables if _is_per_replica(v)]
            step.trackers[id(metric)] = values

    def follow(self, metric: Any) -> None:
        """Remembers the results of one more metric, until the step ends."""
        if any(metric is other for other in self._followed):
            return
        result = metric.result

        @functools.wraps(result)
        def remembered() -> Any:
            found = result()
            for path, part in _flat(found).items():
                self._handed_out[id(part)] = (part, metric, path)
            return found

        # Not by setattr: Keras looks for layers and variables in what is set.
        vars(metric)["result"] = remembered
        self._followed.append(metric)


def _is_per_replica(variable: Any) -> bool:
    return isinstance(variable._value, tf.distribute.DistributedValues)


def _flat(result: Any) -> dict[Path, Any]:
    return flat_logs(result) if isinstance(result, Mapping) else {(): result}
