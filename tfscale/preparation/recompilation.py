"""Compiles a model again: with another rate or optimizer, and with the old optimizer's state."""

from __future__ import annotations

import math
from typing import Any

import keras

from strategies.extension import loss_in, optimized_variables
from tfscale.optimizers.state_dtype import with_same_state_dtype
from tfscale.preparation.model_copy import CURE, Twins, reason_of, value_of


def check_learning_rate(learning_rate: Any) -> None:
    """Checks that a learning rate is a schedule, a positive number or None.

    Raises:
        ValueError: If `learning_rate` is something else.

    Example:
        >>> check_learning_rate(0.1)
    """
    if learning_rate is None or isinstance(
        learning_rate, keras.optimizers.schedules.LearningRateSchedule
    ):
        return
    is_number = isinstance(learning_rate, int | float) and not isinstance(learning_rate, bool)
    if not is_number or not learning_rate > 0 or math.isinf(learning_rate):
        raise ValueError(
            "`learning_rate` must be a positive number or a LearningRateSchedule. Received: "
            f"learning_rate={learning_rate!r}. Omit it to keep the optimizer's rate."
        )


def own_optimizer(optimizer: Any, learning_rate: Any) -> Any:
    """Returns a new optimizer like `optimizer`, with variables created in the current scope.

    Args:
        optimizer: An optimizer or the name of one.
        learning_rate: The rate or schedule that replaces its own. None keeps its own.

    Raises:
        ValueError: If it has no single rate to replace, or cannot be made from its config.
    """
    if isinstance(optimizer, str):
        optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(
            own_optimizer(optimizer.inner_optimizer, learning_rate),
            initial_scale=optimizer.initial_scale,
            dynamic_growth_steps=optimizer.dynamic_growth_steps,
            name=optimizer.name,
        )
    changes: dict[str, Any] = {}
    if learning_rate is not None:
        is_constant = isinstance(learning_rate, int | float)
        changes["learning_rate"] = float(learning_rate) if is_constant else learning_rate
    return with_same_state_dtype(_made_again("optimizer", optimizer, changes), optimizer)


def continue_optimizer(source: Any, target: Any, twins: Twins) -> None:
    """Copies slots, counters and loss scale to the optimizer of a copied model.

    Args:
        source: The optimizer of the original. If it has not trained, nothing is copied.
        target: The optimizer of the copy, of the same class inside any loss scaling.
        twins: Pairs of each variable of the original with that of the copy.
    """
    if not source.built:
        return
    twin_of = {id(variable): twin for variable, twin in twins}
    target.build([twin_of[id(variable)] for variable in optimized_variables(source)])
    scaled = keras.optimizers.LossScaleOptimizer
    if isinstance(source, scaled) and isinstance(target, scaled):
        for name in ("step_counter", "dynamic_scale"):
            getattr(target, name).assign(value_of(getattr(source, name)))
    slots, twin_slots = _slots(source), _slots(target)
    for slot, twin in zip(slots, twin_slots, strict=True):
        twin.assign(value_of(slot))


def _slots(optimizer: Any) -> list[Any]:
    """Returns the state of an optimizer without its rate, which may have been replaced."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return [variable for variable in optimizer.variables if variable.name != "learning_rate"]


def own_compile_arguments(
    arguments: dict[str, Any], old: keras.DTypePolicy, new: keras.DTypePolicy
) -> dict[str, Any]:
    """Returns the arguments of a model's `compile`, without the optimizer, for another model.

    Metrics are new and empty. Losses and metrics of the old default float type get the new one.

    Args:
        arguments: The arguments of the old model's `compile`. Empty if it is not compiled.
        old: The policy of the old model.
        new: The policy of the new one.
    """
    dtypes = old.variable_dtype, new.variable_dtype
    own = {name: part for name, part in arguments.items() if name != "optimizer"}
    if "loss" in own:
        own["loss"] = _each(own["loss"], lambda loss: _own_loss(loss, *dtypes))
    for name in {"metrics", "weighted_metrics"} & own.keys():
        own[name] = _each(own[name], lambda metric: _own_metric(metric, *dtypes))
    return own


def parts_made_again(arguments: dict[str, Any]) -> list[Any]:
    """Returns the objects in the arguments of `compile` that are made again from their config.

    Args:
        arguments: The arguments of a model's `compile`. Empty if it is not compiled.
    """
    metrics = keras.tree.flatten([arguments.get("metrics"), arguments.get("weighted_metrics")])
    found = [metric for metric in metrics if isinstance(metric, keras.metrics.Metric)]
    return [*found, arguments.get("optimizer")]


def refuse_own_compile(model: keras.Model) -> None:
    """Checks that a model's class does not override `compile`, whose arguments would be unknown.

    Raises:
        ValueError: If it does.
    """
    if type(model).compile is not keras.Model.compile:
        raise ValueError(
            "`model` must be of a class that does not override `compile`. Received: "
            f"{model.name!r} of class {type(model).__name__}. Pass a function that builds and "
            "compiles the model, including its rate and optimizer."
        )


def _each(structure: Any, change: Any) -> Any:
    """Applies `change` to each part of a loss or metrics argument."""
    if isinstance(structure, dict):
        return {key: _each(part, change) for key, part in structure.items()}
    if isinstance(structure, list | tuple):
        return [_each(part, change) for part in structure]
    return change(structure)


def _own_loss(loss: Any, old: str, new: str) -> Any:
    if isinstance(loss, keras.losses.Loss) and loss.dtype == old != new:
        return loss_in(loss, keras.DTypePolicy(new))
    return loss


def _own_metric(metric: Any, old: str, new: str) -> Any:
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    return _made_again("metrics", metric, {"dtype": new} if metric.dtype == old != new else {})


def _made_again(argument: str, thing: Any, changes: dict[str, Any]) -> Any:
    try:
        config = {**thing.get_config(), **changes}
        if not isinstance(config.get("fn"), dict):
            return type(thing).from_config(config)
        # A metric of a function. If it has the name of a custom object, Keras's from_config would
        # replace the name by that object too.
        for name in config.keys() - {"name", "dtype"}:
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return type(thing)(**config)
    except Exception as error:  # a user's constructor may raise anything
        raise ValueError(
            f"`{argument}` must be of a class that can be made from its config, with "
            f"{', '.join(changes) or 'nothing'} replaced. Received: {type(thing).__name__}, "
            f"{reason_of(error)}. {CURE}"
        ) from error
