"""Copies a model: same class, made from its config, under another dtype policy, with its state."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import (
    all_layers,
    copy_trainable,
    recomputation_of,
    restore_recomputation,
)

Twins = list[tuple[Any, Any]]

CURE = "Pass a function that builds and compiles the model."
_NAMED_BY_KERAS = re.compile(r"\Avariable_\d+\Z")
"""`add_weight` without a name: the next of a process, so another one in a copy."""


def copy_under(
    policy: keras.DTypePolicy,
    model: keras.Model,
    followers: Sequence[Any],
    custom_objects: dict[str, Any],
) -> tuple[keras.Model, Twins]:
    """Returns an uncompiled copy of `model`, and pairs of each variable with that of the copy.

    Call it in the scope of the strategy for the copy, with `policy` as the global policy. The copy
    has the original's weights, the state of its random layers, and its trainable flags. Inputs of
    the original's default float type get the new default float type.

    Args:
        policy: The new policy of `followers`.
        model: The original, which is unchanged on return.
        followers: The layers that get `policy`. The others keep theirs.
        custom_objects: Classes and functions that Keras does not find, by name.

    Raises:
        ValueError: If the model cannot be made from its config.
    """
    default = model.dtype_policy.variable_dtype
    try:
        with _policy_of(followers, policy):
            config = keras.saving.serialize_keras_object(model.get_config())
        config = _with_inputs(config, default, policy.variable_dtype)
        with keras.saving.custom_object_scope(custom_objects):
            twin = type(model).from_config(config)
            if model.built and not twin.built:
                twin.build_from_config(model.get_build_config())
    except Exception as error:  # a user's constructor may raise anything
        raise ValueError(
            f"`model` must be of a class that can be made from its config. Received: {model.name!r}"
            f" of class {type(model).__name__}, {reason_of(error)}. {CURE}"
        ) from error
    twins = _twins(model, twin)
    for variable, its_twin in twins:
        its_twin.assign(value_of(variable))
    return twin, twins


def state_of(model: keras.Model) -> list[Any]:
    """Returns the variables of a model: weights and random seeds, but no metrics.

    Example:
        >>> model = keras.Sequential([keras.Input([2]), keras.layers.Dropout(0.5)])
        >>> [variable.name for variable in state_of(model)]
        ['seed_generator_state']
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    weights = list(model.weights)
    metrics |= {id(variable) for variable in weights}
    return [*weights, *(variable for variable in model.variables if id(variable) not in metrics)]


def value_of(variable: keras.Variable) -> np.ndarray[Any, Any]:
    """Returns the value of a variable, the same on all replicas.

    Example:
        >>> float(value_of(keras.Variable(2.0)))
        2.0
    """
    # Through a tensor, because NumPy 2 warns about the conversion of Keras variables.
    return np.asarray(tf.convert_to_tensor(variable.value))


def reason_of(error: Exception) -> str:
    """Returns the message of an error in one line, without the configs that Keras adds.

    Example:
        >>> reason_of(TypeError("config={...} Exception encountered: no such argument"))
        'TypeError: no such argument'
    """
    innermost = " ".join(str(error).rpartition("Exception encountered: ")[2].split())
    return f"{type(error).__name__}: {innermost[:300]}"


@contextlib.contextmanager
def _policy_of(followers: Sequence[Any], policy: keras.DTypePolicy) -> Iterator[None]:
    """Sets `policy` in `followers` temporarily, so that their configs contain it."""
    own = [layer.dtype_policy for layer in followers]
    try:
        for layer in followers:
            layer.dtype_policy = policy
        yield
    finally:
        for layer, before in zip(followers, own, strict=True):
            layer.dtype_policy = before


def _with_inputs(config: Any, old: str, new: str) -> Any:
    """Returns `config` with inputs of the new float type, and inner models not compiled."""
    if isinstance(config, list):
        return [_with_inputs(part, old, new) for part in config]
    if not isinstance(config, dict):
        return config
    changed = {
        key: _with_inputs(part, old, new) for key, part in config.items() if key != "compile_config"
    }
    if changed.get("class_name") == "InputLayer" and changed["config"].get("dtype") == old:
        changed["config"] = {**changed["config"], "dtype": new}
    return changed


def _own_name(variable: keras.Variable) -> str:
    """Returns a variable's name, without the number of one that Keras has named itself."""
    return _NAMED_BY_KERAS.sub("variable", variable.name)


def _twins(model: keras.Model, twin: keras.Model) -> Twins:
    layers, twin_layers = all_layers(model), all_layers(twin)
    variables, twin_variables = state_of(model), state_of(twin)
    if [type(layer) for layer in layers] != [type(layer) for layer in twin_layers] or [
        (_own_name(variable), tuple(variable.shape)) for variable in variables
    ] != [(_own_name(variable), tuple(variable.shape)) for variable in twin_variables]:
        raise ValueError(
            f"`model` must be described completely by its config. Received: {model.name!r} with "
            f"{len(layers)} layers and {len(variables)} variables, while its config creates "
            f"{len(twin_layers)} and {len(twin_variables)}, or different ones: a config lacks "
            f"layers shared between inner models, and weights added after construction. {CURE}"
        )
    for layer, its_twin in zip(layers, twin_layers, strict=True):
        copy_trainable(layer, its_twin)
        restore_recomputation(its_twin, recomputation_of(layer))
    return list(zip(variables, twin_variables, strict=True))
