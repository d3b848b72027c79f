"""Refuses before the first step what cannot train correctly, and names the cure."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import tensorflow as tf

from strategies.devices import all_on
from strategies.keras_support.model.model_parts import all_layers
from strategies.keras_support.patching.ownership import (
    is_asynchronous,
    is_multi_worker,
    is_on_server,
    is_owned,
)


def warn_of_padding(model: Any, is_training: bool) -> None:
    """Warns, when a step is traced, of what counts the padding rows of its batch.

    Args:
        model: A compiled Keras model.
        is_training: Whether the step trains.
    """
    kinds = keras.layers.BatchNormalization
    counting = [part.name for part in all_layers(model) if is_training and isinstance(part, kinds)]
    if model._compile_config is not None and model._compile_config.config.get("metrics"):
        counting.append("metrics")
    if counting:
        warnings.warn(
            f"Padding rows count in {', '.join(counting)}, which have no sample weights. Use "
            "weighted_metrics for metrics, and remainder='keep' or 'drop' with BatchNormalization.",
            stacklevel=2,
        )


def refuse_impossible(model: Any) -> None:
    """Checks a model before its train, test or predict function is made.

    Args:
        model: A Keras model about to run under a strategy of this package.

    Raises:
        ValueError: If its parts belong to different strategies, or it asks for what is not
            supported.
    """
    strategy = model.distribute_strategy
    if keras.distribution.distribution() is not None:
        raise ValueError(
            "keras.distribution must not be set under a tf.distribute strategy. Received: "
            f"{keras.distribution.distribution()!r}, which on the TensorFlow backend trains on one "
            "device without a warning. Call keras.distribution.set_distribution(None). To divide "
            "matrices over devices use tfscale.parallel.tensor_parallel."
        )
    if isinstance(strategy, tf.distribute.OneDeviceStrategy):
        return
    refuse_parts_outside(model)
    if is_multi_worker(strategy) or is_asynchronous(strategy):
        for metric in model.metrics:
            for part in getattr(metric, "metrics", None) or [metric]:  # compile keeps them in one
                _refuse_outside("metric", part.name, part.variables, strategy)
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        _refuse_stateful(model, replicas)
    if model.jit_compile and all_on("TPU", strategy):
        raise ValueError(
            "`jit_compile` must not be True on a TPU: TensorFlow compiles the whole step already, "
            "and cannot compile a part of it separately (keras-team/keras#19448). "
            f"Received: jit_compile={model.jit_compile!r}. Use compile(jit_compile='auto')."
        )
    # Between GPUs XLA has collectives, and TensorFlow then leaves out its merge calls; not run.
    if model.jit_compile and replicas > 1 and not all_on("GPU", strategy):
        raise ValueError(
            "`jit_compile` must not be True on more than one replica except on GPUs: elsewhere XLA "
            "can place neither the replicas' variables nor their collectives. Received: "
            f"jit_compile={model.jit_compile!r} with {replicas} replicas. "
            "Use compile(jit_compile='auto') or False."
        )


def refuse_parts_outside(model: Any) -> None:
    """Checks that a model, its weights and its optimizer were made under its strategy.

    Args:
        model: A Keras model whose strategy is one of this package.

    Raises:
        ValueError: If one of them was made outside: the model takes any strategy in whose scope it
            is used.
    """
    strategy = model.distribute_strategy
    if isinstance(strategy, tf.distribute.OneDeviceStrategy):
        return  # its variables are plain ones, wherever they were made
    if model._distribute_strategy is not strategy:
        raise ValueError(
            f"`model` {model.name!r} must be made inside `strategy.scope()`. Received: a model "
            "made outside of it. Build and compile it under `with strategy.scope():`."
        )
    _refuse_outside("model", model.name, model.weights, strategy)
    optimizer = getattr(model, "optimizer", None)  # `predict` needs no compile
    if optimizer is not None:
        _refuse_outside("optimizer", optimizer.name, optimizer.variables, strategy)


def _refuse_stateful(model: Any, replicas: int) -> None:
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            raise ValueError(
                "`stateful` must be False on more than one replica: the state has a row for each "
                "example of the global batch, and a replica has only some of the rows. Received: "
                f"stateful=True in layer {layer.name!r} with {replicas} replicas. Train it under "
                "strategies.one_device_strategy(), or pass whole sequences, so that `stateful` is "
                "not needed."
            )


def refuse_owned_parts(model: Any) -> None:
    """Checks a model that is about to train under no strategy of this package.

    Args:
        model: A Keras model, made outside of their scopes.

    Raises:
        ValueError: If its optimizer, or a layer that it uses, was made inside of one.
    """
    for kind, owner in (("model", model), ("optimizer", getattr(model, "optimizer", None))):
        for variable in owner.variables if owner is not None else ():
            if is_owned(getattr(variable._value, "distribute_strategy", None)):
                raise ValueError(
                    f"`model` {model.name!r} must be made inside `strategy.scope()` like its "
                    f"parts. Received: the {kind}'s variable {variable.path!r}, made inside a "
                    "scope, and a model made outside. Make it, and call compile, under `with "
                    "strategy.scope():`."
                )


def _refuse_outside(kind: str, name: str, variables: Any, strategy: tf.distribute.Strategy) -> None:
    for variable in variables:
        value = variable._value
        if value is None or getattr(value, "distribute_strategy", None) is strategy:
            continue
        if is_asynchronous(strategy) and is_on_server(variable):
            continue
        raise ValueError(
            f"`{kind}` {name!r} must be made inside `strategy.scope()`. Received: its variable "
            f"{variable.path!r}, made outside of it and not shared by the replicas. Make it, and "
            "call compile, under `with strategy.scope():`."
        )
