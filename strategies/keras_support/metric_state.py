"""Metric results over all replicas: the state is added up first, then the result is taken.

Keras averages the replicas' results, which is wrong for every metric that is not a plain mean over
equal shares, and costs one collective a metric (S16). The state is a handful of sums; all of it
travels as one tensor.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.ownership import is_owned
from strategies.keras_support.seam import Seam
from strategies.keras_support.step_context import current_step


def metric_results(model: Any) -> dict[str, tf.Tensor]:
    """Returns the metric results one device would have; called in cross-replica context."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return _results(model)
    variables = [v for v in model.metrics_variables if _is_summed(v)]
    state = zip(variables, _sums(strategy, variables), strict=True)
    with keras.StatelessScope(state_mapping=[(v, total) for v, total in state]):
        return _results(model)


def _results(model: Any) -> dict[str, tf.Tensor]:
    """The results, with NaN for a loss that nobody recorded, where Keras says 0."""
    results = dict(model.get_metrics_result())
    tracker = loss_tracker(model)
    if tracker is not None and tracker.name in results:
        loss = tf.convert_to_tensor(results[tracker.name])
        recorded = tf.convert_to_tensor(tracker.count) > 0
        results[tracker.name] = tf.where(recorded, loss, tf.cast(float("nan"), loss.dtype))
    return results


def loss_tracker(model: Any) -> Any:
    """Returns Keras's own metric of the loss, or None where the model's metrics leave it out."""
    tracker = model._loss_tracker
    return tracker if any(metric is tracker for metric in model.metrics) else None


def _own_loss(get_metrics_result_or_logs: Any) -> Any:
    """Lets history show the loss that a user's train_step reports (S13).

    Keras prefers the loss tracker's result to what the step returned, and a step that computes its
    own loss never fed the tracker: history says 0.0 from the first epoch to the last.
    """

    @functools.wraps(get_metrics_result_or_logs)
    def result(self: Any, logs: Any) -> Any:
        results = get_metrics_result_or_logs(self, logs)
        if results is logs or not is_owned(self.distribute_strategy):
            return results
        tracker = loss_tracker(self)
        if (
            tracker is None
            or tracker.name not in logs
            or float(tf.convert_to_tensor(tracker.count)) > 0
        ):
            return results
        return {**results, tracker.name: logs[tracker.name]}

    return result


def _by_examples(update_state: Any) -> Any:
    """Counts a batch once in a mean of scalars: its shares by their examples (S5).

    A scalar that comes without a weight, such as the loss of one output or a mean that the user
    took, counts once a batch on one device. Counted once a share it would count as often as there
    are replicas, each alike, however few its examples.
    """

    @functools.wraps(update_state)
    def update(self: Any, values: Any, sample_weight: Any = None) -> Any:
        step, replicas = current_step(), tf.distribute.get_strategy().num_replicas_in_sync
        is_scalar = len(getattr(values, "shape", ())) == 0
        if replicas > 1 and step is not None and sample_weight is None and is_scalar:
            sample_weight = step.share()
        elif replicas > 1 and step is not None and self is step.weighed_alike:
            sample_weight = tf.cast(sample_weight, tf.float64) * step.share()
        return update_state(self, values, sample_weight=sample_weight)

    return update


OUTPUT_LOSSES = Seam(
    "keras.src.metrics.reduction_metrics:Mean.update_state",
    frozenset({"5e2ca7935110"}),
    _by_examples,
)
EPOCH_LOGS = Seam(
    "keras.src.trainers.trainer:Trainer._get_metrics_result_or_logs",
    frozenset({"86b411cdd04a"}),
    _own_loss,
)


def metric_names(model: Any) -> set[str]:
    """Returns the keys of the model's metric results; reads no variable."""
    blank = [(v, tf.zeros(v.shape, v.dtype)) for v in model.metrics_variables]
    with keras.StatelessScope(state_mapping=blank):
        return set(model.get_metrics_result())


def _is_summed(variable: Any) -> bool:
    return bool(
        isinstance(variable._value, tf.distribute.DistributedValues)
        and variable._value.aggregation == tf.VariableAggregation.SUM
    )


def _sums(strategy: tf.distribute.Strategy, variables: list[Any]) -> list[tf.Tensor]:
    """Adds up each variable over the replicas; one collective a dtype."""
    totals: dict[int, tf.Tensor] = {}
    for dtype in sorted({v.dtype for v in variables}):
        members = [v for v in variables if v.dtype == dtype]

        def flatten(members: list[Any] = members) -> tf.Tensor:
            return tf.concat([tf.reshape(v.value, [-1]) for v in members], axis=0)

        total = strategy.reduce("SUM", strategy.run(flatten), axis=None)
        parts = tf.split(total, [v.shape.num_elements() for v in members])
        totals.update({id(v): tf.reshape(p, v.shape) for v, p in zip(members, parts, strict=True)})
    return [totals[id(v)] for v in variables]
