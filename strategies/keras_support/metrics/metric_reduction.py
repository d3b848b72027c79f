"""Metric results over all replicas: the state is combined first, then the result computed.

Keras averages the replicas' results, which is wrong for every metric that is not a plain mean over
equal replica batches, and costs one collective per metric (S16). The state is a few sums, or what
`metric_combination` says; all of it is sent as one tensor.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.metrics.logs import Path, flat_logs
from strategies.keras_support.metrics.metric_combination import combination, is_variable
from strategies.keras_support.metrics.step_results import StepResults
from strategies.keras_support.patching.ownership import is_owned


def metric_results(model: Any) -> dict[str, tf.Tensor]:
    """Returns the metric results one device would have; called in cross-replica context."""
    return all_results(model, None)[0]


def all_results(
    model: Any, reported: StepResults | None
) -> tuple[dict[str, tf.Tensor], dict[Path, tf.Tensor]]:
    """Returns the metric results one device would have; called in cross-replica context.

    Args:
        model: A compiled model under a strategy of this package.
        reported: Results that a step reports under other names, or None.

    Returns:
        The results of the model's metrics by name, and those of `reported` by path.
    """
    strategy = model.distribute_strategy

    def results() -> tuple[dict[str, tf.Tensor], dict[Path, tf.Tensor]]:
        return _results(model), {} if reported is None else reported.values()

    if strategy.num_replicas_in_sync == 1:
        return results()
    more = [] if reported is None else reported.variables
    variables = [v for v in (*model.metrics_variables, *more) if _is_combined(v)]
    state = list(zip(variables, _combined(strategy, variables), strict=True))
    for variable, value in state:
        if combination(variable) in ("max", "min"):
            variable._value.assign(value)  # so that its copies, read anywhere, say the same
    with keras.StatelessScope(state_mapping=state):
        return results()


def _results(model: Any) -> dict[str, tf.Tensor]:
    """The results, with NaN for a loss that was not recorded, where Keras says 0."""
    results = {name: _number(result) for name, result in model.get_metrics_result().items()}
    tracker = loss_tracker(model)
    if tracker is not None and tracker.name in results:
        loss = tf.convert_to_tensor(results[tracker.name])
        recorded = tf.convert_to_tensor(tracker.count) > 0
        results[tracker.name] = tf.where(recorded, loss, tf.cast(float("nan"), loss.dtype))
    return results


def loss_tracker(model: Any) -> Any:
    """Returns Keras's own metric of the loss; None where the model has no or another such name."""
    tracker = model._loss_tracker
    if tracker is None:
        return None
    named = [metric for metric in model.metrics if metric.name == tracker.name]
    return tracker if named and named[-1] is tracker else None


def _number(result: Any) -> Any:
    """Returns a result as it is now: one that is a variable would go on changing."""
    return tf.nest.map_structure(
        lambda part: tf.convert_to_tensor(part) if is_variable(part) else part, result
    )


def loss_of_own_step(get_metrics_result_or_logs: Any) -> Any:
    """Lets history show the loss that a user's train_step reports (S13).

    Keras prefers the loss tracker's result to what the step returned. A step that computes its own
    loss does not update the tracker, so history shows 0.0 in every epoch.
    """

    @functools.wraps(get_metrics_result_or_logs)
    def result(self: Any, logs: Any) -> Any:
        results = get_metrics_result_or_logs(self, logs)
        if results is logs or not is_owned(self.distribute_strategy):
            return results
        results = {
            name: logs[name] if _holds_variable(value) else value for name, value in results.items()
        }
        tracker = loss_tracker(self)
        if (
            tracker is None
            or tracker.name not in logs
            or float(tf.convert_to_tensor(tracker.count)) > 0
        ):
            return results
        return {**results, tracker.name: logs[tracker.name]}

    return result


def mean_by_examples(update_state: Any) -> Any:
    """Counts a batch once in a mean of scalars: its replica batches by their examples (S5).

    A scalar that comes without a weight, such as the loss of one output or a mean that the user
    took, counts once a batch on one device. Counted once per replica it would count as often as
    there are replicas, each with the same weight, however few its examples.
    """

    @functools.wraps(update_state)
    def update(self: Any, values: Any, sample_weight: Any = None) -> Any:
        step = current_step()
        divided = step if step is not None and step.is_of_several else None
        if step is not None and step.results is not None:
            step.results.follow_unlisted(self)
        is_scalar = len(getattr(values, "shape", ())) == 0
        if divided is not None and sample_weight is None and is_scalar:
            sample_weight = divided.fraction()
        elif divided is not None and self is divided.shared_loss_tracker:
            sample_weight = tf.cast(sample_weight, divided.fraction().dtype) * divided.fraction()
        elif step is not None and step.padded_rows is not None and is_scalar:
            sample_weight = _without_padding(sample_weight, step)
        return update_state(self, values, sample_weight=sample_weight)

    return update


def _without_padding(weight: Any, step: StepContext) -> Any:
    """Returns the weight of a mean, which Keras counts with the rows that are padding."""
    if weight is None or len(getattr(weight, "shape", ())):
        return weight
    dtype = step.fraction().dtype
    return tf.cast(weight, dtype) * tf.cast(step.examples, dtype) / tf.cast(step.padded_rows, dtype)


def metric_paths(model: Any) -> set[Path]:
    """Returns the paths of the model's metric results; reads no variable."""
    blank = [(v, tf.zeros(v.shape, v.dtype)) for v in model.metrics_variables]
    with keras.StatelessScope(state_mapping=blank):
        return set(flat_logs(model.get_metrics_result()))


def _holds_variable(result: Any) -> bool:
    return any(is_variable(part) for part in tf.nest.flatten(result))


def _is_combined(variable: Any) -> bool:
    return (
        isinstance(variable._value, tf.distribute.DistributedValues)
        and variable.synchronization == "on_read"
    )


def _combined(strategy: tf.distribute.Strategy, variables: list[Any]) -> list[tf.Tensor]:
    """Combines the copies of each variable; one collective per dtype."""
    replicas = strategy.num_replicas_in_sync
    whole: dict[int, tf.Tensor] = {}
    for dtype in sorted({v.dtype for v in variables}):
        members = [v for v in variables if v.dtype == dtype]

        def flatten(members: list[Any] = members) -> tf.Tensor:
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            return tf.concat([_sent(v, index, replicas) for v in members], axis=0)

        total = strategy.reduce("SUM", strategy.run(flatten), axis=None)
        sizes = [v.shape.num_elements() * len(_rows(v, replicas)) for v in members]
        for v, part in zip(members, tf.split(total, sizes), strict=True):
            copies = tf.reshape(part, [-1, *v.shape])
            how = _OF_COPIES.get(combination(v))
            whole[id(v)] = tf.cast(copies[0] if how is None else how(copies, axis=0), v.dtype)
    return [whole[id(v)] for v in variables]


_OF_COPIES = {"max": tf.reduce_max, "min": tf.reduce_min}


def _rows(variable: Any, replicas: int) -> range:
    """The places of a variable's copies in the sum: one for all, or one for each replica."""
    return range(replicas if combination(variable) in _OF_COPIES else 1)


def _sent(variable: Any, index: tf.Tensor, replicas: int) -> tf.Tensor:
    """A replica's copy in its place among those of all replicas; zeros elsewhere."""
    value = tf.reshape(variable.value, [1, -1])
    if value.dtype == tf.bool:
        value = tf.cast(value, tf.int32)
    if combination(variable) != "sum":
        is_own = tf.equal(_rows(variable, replicas), index)
        value = tf.where(is_own[:, tf.newaxis], value, tf.zeros_like(value))
    return tf.reshape(value, [-1])
