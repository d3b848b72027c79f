"""Private parts of a Keras model that a copy of it needs."""

from __future__ import annotations

import copy
from typing import Any

import keras

from strategies.keras_support.model.scope import leaves_execution_size_open
from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_symbol import require_recognised


def all_layers(model: Any) -> list[Any]:
    """Returns `model` and the layers in it at any depth, each after the one that contains it."""
    return list(model._flatten_layers())


def has_unbuilt_layers(model: Any) -> bool:
    """Tells whether a step of `model` may make variables of its layers."""
    return not all(layer.built for layer in all_layers(model) if layer is not model)


def direct_layers(layer: Any) -> list[Any]:
    """Returns the layers directly in `layer`, not those inside of them."""
    return list(layer._layers)


def own_state(layer: Any) -> list[Any]:
    """Returns the variables that `layer` itself keeps besides its weights."""
    return list(layer._non_trainable_variables)


def names_dtype(layer: Any) -> bool:
    """Tells whether `layer` was certainly made by a call that names its dtype.

    Keras keeps the arguments of a call where all are plain values; a layer it makes from a config
    gets everything that is in one, `trainable` too.
    """
    record = getattr(layer, "_auto_config", None)
    given = record.config if record is not None else {}
    return given.get("dtype") is not None and "trainable" not in given


def copy_trainable(source: Any, target: Any) -> None:
    """Copies the trainable flags of a layer and of its own weights to the layer's copy.

    The public setter also sets every inner layer, and so overwrites their flags.
    """
    target._trainable = source._trainable
    for original, twin in zip(own_weights(source), own_weights(target), strict=True):
        twin.trainable = original.trainable


def own_weights(layer: Any) -> list[Any]:
    """Returns the weights that `layer` itself keeps, trainable ones first."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def compile_arguments(model: Any) -> dict[str, Any]:
    """Returns the arguments of `model.compile`, the same objects.

    Keras stores the resolved value of `jit_compile="auto"`, and does not store `auto_scale_loss`.
    `steps_per_execution` is left out if the model's own `compile` left it out.

    Raises:
        RuntimeError: If this Keras keeps what a copy is made of in another way.
    """
    require_recognised(KERAS_SYMBOLS, Need.COPIES)
    arguments = dict(model._compile_config.config)
    is_float16 = model.dtype_policy.name == "mixed_float16"
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    arguments["auto_scale_loss"] = is_scaled or not is_float16
    if leaves_execution_size_open(model):
        arguments.pop("steps_per_execution", None)
    return arguments


def optimized_variables(optimizer: Any) -> list[Any]:
    """Returns the variables that `optimizer` was built for, in the order of its slots."""
    return list(optimizer._trainable_variables)


def loss_in(loss: Any, policy: keras.DTypePolicy) -> Any:
    """Returns `loss` with another dtype, which is not in the config of a loss."""
    changed = copy.copy(loss)
    changed._dtype_policy = policy
    changed._dtype = policy.compute_dtype
    return changed


def schedule_of(optimizer: Any) -> Any:
    """Returns the schedule or the function of an optimizer's learning rate, or None for a number.

    Raises:
        RuntimeError: If this Keras keeps it in another way.
    """
    require_recognised(KERAS_SYMBOLS, Need.FINDERS)
    rate = getattr(optimizer, "inner_optimizer", optimizer)._learning_rate
    return rate if callable(rate) and not isinstance(rate, keras.Variable) else None
