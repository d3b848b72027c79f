"""How the replicas' copies of a metric's state are combined.

Each replica updates its own copy with its replica batch, and the copies are combined where results
are asked for. Keras adds them up, which is right for what the update adds to, and for all of
Keras's own metrics. It is wrong for a maximum or a last value (S28). What an update assigns says
which it is:

    v + x           "sum"
    maximum(v, x)   "max"; minimum(v, x): "min"
    x, the same on all replicas: "first"

Any other update is refused unless the metric says how its copies combine. Declared as "mean", what
is assigned becomes its mean over all replicas at once, weighted by examples: exact for a moving
average, or for the last batch's mean.

A metric made outside of the scope is given a copy for each replica (S30). If the replicas shared
it, they would write it in turn, read it in the middle of a step, and count the stand-in row of an
empty replica batch. The values of its variables do not change.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.context.lineage import OWN, Lineage
from strategies.keras_support.context.over_replicas import mean_over_replicas
from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.metrics.metric_updates import assigned_form
from strategies.keras_support.patching.ownership import (
    has_copies,
    is_asynchronous,
    is_multi_worker,
    is_owned,
)

COMBINATIONS = ("sum", "max", "min", "first", "mean")
_DECLARED, _FOUND = "_tfscale_combined_by", "_tfscale_found_to_combine_by"
_BETWEEN = (  # modules between an update and the assignment it makes
    "keras.src.backend.",
    "strategies.keras_support.asynchronous.counters",
    "strategies.keras_support.state.layer_state",
    "strategies.keras_support.metrics.metric_combination",
)


def combined_by(variable: Any, how: str) -> Any:
    """Declares how the replicas' copies of a metric's variable are combined.

    Needed only if an update does not show it; see the module. Call it where the variable is made:

        self.longest = combined_by(self.add_variable((), "zeros", name="longest"), "max")

    Args:
        variable: A variable that `keras.metrics.Metric.add_variable` made.
        how: "sum", "max" or "min" of the copies; "first", the first replica's copy, for what is the
            same on all; or "mean", weighted by examples, of what each update assigns.

    Returns:
        `variable` itself.

    Raises:
        ValueError: If `how` is none of these, or `variable` is not of a metric.

    Example:
        >>> metric = keras.metrics.Mean()
        >>> longest = combined_by(metric.add_variable((), "zeros", name="longest"), "max")
        >>> longest.name
        'longest'
    """
    if how not in COMBINATIONS:
        raise ValueError(
            f"`how` must be one of {', '.join(map(repr, COMBINATIONS))}. Received: how={how!r}."
        )
    if getattr(variable, "synchronization", None) != "on_read":
        raise ValueError(
            "`variable` must be made by a metric's add_variable. Received: "
            f"variable={variable!r}. For a layer's, use add_weight(..., aggregation=...)."
        )
    setattr(variable, _DECLARED, how)
    _hold_whole(variable, how)
    return variable


def combination(variable: Any) -> str:
    """Returns how the copies of a metric's variable are combined: one of `COMBINATIONS`."""
    declared = _declared(variable)
    return declared if declared is not None else getattr(variable, _FOUND, "sum")


def _declared(variable: Any) -> str | None:
    declared: str | None = getattr(variable, _DECLARED, None)
    if declared is None:
        declared = {"mean": "mean", "only_first_replica": "first"}.get(variable.aggregation)
    return declared


def combinable_assignment(direct_assign: Any) -> Any:
    """Looks at what a step assigns to a metric's variable, or to one that replicas share."""

    @functools.wraps(direct_assign)
    def assign(self: Any, value: Any) -> Any:
        step = current_step()
        replica = tf.distribute.get_replica_context()
        if step is not None and replica is not None and replica.num_replicas_in_sync > 1:
            if not has_copies(self, replica.strategy):
                _refuse_shared(self)
            elif self.synchronization == "on_read":
                value = _combinable(step, self, value)
        elif self.synchronization == "on_read" and _is_assigned_whole(self, replica):
            # Keras wants no value back; TensorFlow would reduce the copies to give it one.
            self._value.assign(tf.cast(value, self._value.dtype), read_value=False)
            return None
        return direct_assign(self, value)

    return assign


def _is_assigned_whole(variable: Any, replica: Any) -> bool:
    """Tells whether all copies are assigned at once, as where metrics are reset."""
    owner = getattr(variable._value, "distribute_strategy", None)
    return owner is not None and (replica is None or replica.strategy is not owner)


def _refuse_shared(variable: Any) -> None:
    """Refuses a variable made outside of the scope, which replicas write in turn."""
    if _caller().startswith("keras.src.random."):
        return  # one count of draws for all replicas is no error
    raise ValueError(
        f"`{variable.path}` must be made inside `strategy.scope()`, where each replica gets its "
        "own copy. Received: a variable made outside of it, to which a step writes. Make its "
        "owner (a metric, an optimizer, a layer) under `with strategy.scope():`. If the owner is "
        "a metric, listing it in the model's `metrics` is enough."
    )


def _combinable(step: StepContext, variable: Any, value: Any) -> Any:
    declared = _declared(variable)
    if declared == "mean":
        return tf.cast(mean_over_replicas(value), variable.dtype)
    if declared is not None or _caller().startswith(("keras.src.metrics.", "strategies.")):
        return value
    found = _found(step, variable, value)
    before = getattr(variable, _FOUND, None)
    if found is None or (before is not None and found not in (before, "same")):
        raise ValueError(
            f"`{variable.path}` must be a sum over the replicas, or declare how the replicas' "
            "copies are combined, because each replica updates it from its own replica batch. "
            "Received: an update that is neither a sum, a maximum nor a minimum. Declare the "
            "combination with "
            'tfscale.metrics.combined_by(variable, "sum"), "max", "min", "first" or "mean".'
        )
    if before is None and found != "same":
        setattr(variable, _FOUND, found)
        _hold_whole(variable, found)
    return value


def _found(step: StepContext, variable: Any, value: Any) -> str | None:
    value = tf.convert_to_tensor(value)
    form = assigned_form(value, variable, step.lineage)
    if form != "local":
        return form
    return None if _is_own(step, value, step.lineage) else "first"


def _is_own(step: StepContext, value: tf.Tensor, lineage: Lineage) -> bool:
    """Tells whether a value differs between replicas: by their data, or by other metrics' state."""
    if lineage.of(value) & OWN:
        return True
    model = step.layers[0] if step.layers else None
    state = getattr(model, "metrics_variables", ())
    return any(assigned_form(value, variable, lineage) != "local" for variable in state)


def _hold_whole(variable: Any, how: str) -> None:
    """Assigns the value to each copy, where TensorFlow would divide a sum among them."""
    copies = variable._value
    if how == "sum" or not isinstance(copies, tf.distribute.DistributedValues):
        return
    if copies._aggregation != tf.VariableAggregation.SUM:
        return
    copies._aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    with tf.init_scope():
        replicas = copies.distribute_strategy.num_replicas_in_sync
        for copy in copies._values:
            if copy.dtype != tf.bool:
                copy.assign(copy.read_value() * tf.cast(replicas, copy.dtype))


def _caller() -> str:
    """Returns the name of the module whose code assigns."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith(_BETWEEN):
            return module
        frame = frame.f_back
    return ""


def is_variable(value: Any) -> bool:
    """Tells whether a result is not a number but a variable, which goes on changing."""
    return isinstance(value, keras.Variable | tf.Variable | tf.distribute.DistributedValues)


def adopt_metrics(model: Any) -> None:
    """Gives the metrics of `model` that were made outside of its scope copies on all replicas.

    With several workers they are refused, like other objects: see `model.checks`.

    Args:
        model: A Keras model about to run under a strategy of this package.
    """
    strategy = model.distribute_strategy
    if not is_owned(strategy) or strategy.num_replicas_in_sync == 1:
        return
    if is_asynchronous(strategy) or is_multi_worker(strategy):
        return
    for variable in model.metrics_variables:
        value = variable._value
        if value is None or isinstance(value, tf.distribute.DistributedValues):
            continue
        with tf.init_scope(), strategy.scope():
            held = value.read_value()
            variable._initialize(held)
            variable._value.assign(held)  # where copies are added up, divided among them
