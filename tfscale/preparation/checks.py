"""Checks of `prepare`, made before it changes anything."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import exchange, is_multi_worker
from tfscale.preparation.model_copy import state_of, value_of
from tfscale.preparation.recompilation import check_learning_rate


def check_arguments(model: Any, strategy: Any, learning_rate: Any, optimizer: Any) -> None:
    """Checks the arguments of `prepare`.

    Raises:
        ValueError: If an argument has a wrong type, or two arguments contradict each other.
    """
    if not isinstance(strategy, tf.distribute.Strategy):
        raise ValueError(
            "`strategy` must be a tf.distribute.Strategy. Received: "
            f"strategy={strategy!r}. Build one with `strategies.auto_strategy()`."
        )
    if not callable(model):
        raise ValueError(
            "`model` must be a keras.Model or a function that returns one. Received: "
            f"model={model!r}. Pass the function itself, without calling it."
        )
    check_learning_rate(learning_rate)
    if optimizer is None or isinstance(optimizer, str):
        return
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            "`optimizer` must be a Keras optimizer or the name of one. Received: "
            f"optimizer={optimizer!r}. Omit it to keep the model's optimizer."
        )
    if learning_rate is not None:
        raise ValueError(
            "`learning_rate` must be omitted if `optimizer` is an object, which has its own. "
            f"Received: learning_rate={learning_rate!r} and {type(optimizer).__name__}. Set the "
            "rate in the optimizer, or pass the optimizer's name."
        )
    if optimizer.built:
        raise ValueError(
            "`optimizer` must be new. Received: one that has already trained, "
            f"{optimizer.name!r}. Omit it to continue with the model's optimizer."
        )


def check_compiled(model: keras.Model, optimizer: Any, loss: Any) -> None:
    """Checks that a model is compiled, or that the needed arguments of `compile` are given.

    Raises:
        ValueError: If the model is not compiled, and `optimizer` or `loss` is None.
    """
    if model.compiled and model.optimizer is None and optimizer is None:
        raise ValueError(
            f"`model` must be compiled with an optimizer. Received: {model.name!r}, which has none."
            " Pass `optimizer`."
        )
    if not model.compiled and (optimizer is None or loss is None):
        raise ValueError(
            "`model` must be compiled, or `optimizer` and `loss` must be given. Received: "
            f"{model.name!r}, not compiled, with optimizer={optimizer!r} and loss={loss!r}. "
            "Call model.compile, or pass both."
        )


def check_same_on_all_workers(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Checks that a model has the same state on all workers. All workers must call it together.

    TensorFlow would let each worker continue from its own state.

    Raises:
        ValueError: On every worker, if the states differ.
    """
    if not is_multi_worker(strategy):
        return
    optimizer = model.optimizer if model.compiled else None
    digest = hashlib.sha256()
    for variable in [*state_of(model), *(optimizer.variables if optimizer else [])]:
        digest.update(f"{tuple(variable.shape)} {variable.dtype}".encode())
        digest.update(value_of(variable).tobytes())
    resolver = strategy.cluster_resolver
    own = f"{resolver.task_type} {resolver.task_id}: {digest.hexdigest()[:16]}"
    answers = exchange(strategy, "the model to prepare", own)
    if len({answer.partition(": ")[2] for answer in answers}) > 1:
        raise ValueError(
            "`model` must have the same weights and slots on all workers. Received: the digests "
            f"{', '.join(answers)}. Call keras.utils.set_random_seed before it is built, load the "
            "same file everywhere, or pass a function that builds it."
        )
