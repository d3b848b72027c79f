"""A subject's model, new and alike at each trial: same weights, no random layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfscale.verify.batches import Batch, as_tensor, inputs_of, mapped, with_rows
from tfscale.verify.layers import switch_off_random_layers
from tfscale.verify.user_model import Subject, WrongUsage


@dataclass(frozen=True)
class Trial:
    """How a subject is trained.

    Attributes:
        subject: What is trained.
        strategy: The strategy, or None for stock Keras on one device.
        steps: Optimizer steps; rounded up to whole executions (`steps_per_execution`). Positive.
        is_float64: Whether Keras's default float is set to float64 before the function is called.
        seed: Seed of Keras, NumPy and Python. Not negative.
        say: Told what is going on.
    """

    subject: Subject
    strategy: tf.distribute.Strategy | None
    steps: int
    is_float64: bool
    seed: int
    say: Callable[[str], None]


def new_model(trial: Trial, initial: Sequence[np.ndarray] | None, batch: Batch | None) -> Any:
    """Builds the subject anew, with random layers off and the weights given.

    Args:
        trial: How.
        initial: Values of `model.weights`, or None to keep those of the function's initializers.
        batch: A batch to build the model with, if it is not built. None: of the data returned.

    Returns:
        The model, its data, and the names of layers that were switched off and that still draw.
    """
    keras.backend.clear_session()
    if trial.is_float64:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(trial.seed)
    scope = trial.strategy.scope() if trial.strategy else contextlib.nullcontext()
    with scope:
        model, data = trial.subject.build()
        if model.distribute_strategy is not (trial.strategy or tf.distribute.get_strategy()):
            raise WrongUsage(
                f"`{trial.subject.target}` must leave strategies to --strategy. Received: a model "
                f"under {type(model.distribute_strategy).__name__}. Make none in the function."
            )
        switched, drawing = switch_off_random_layers(model)
        if batch is not None:
            _build(model, batch)
        if initial is not None:
            _set_weights(trial, model, initial)
    return model, data, switched, drawing


def _build(model: Any, batch: Batch) -> None:
    """Makes the weights, by a call on one row.

    A model that cannot be called so, such as one whose `train_step` does everything, makes those
    that are left in its first step, alike at each trial, since it is seeded.
    """
    if model.built:
        return
    row = mapped(as_tensor, inputs_of(with_rows(batch, [0])))
    with contextlib.suppress(Exception):
        model(row)


def _set_weights(trial: Trial, model: Any, values: Sequence[np.ndarray]) -> None:
    shapes = [tuple(variable.shape) for variable in model.weights]
    if shapes != [value.shape for value in values]:
        raise WrongUsage(
            f"`{trial.subject.target}` must build the same model at each call. Received: weights "
            f"of shapes {shapes}, before {[value.shape for value in values]}."
        )
    for variable, value in zip(model.weights, values, strict=True):
        variable.assign(value)


def plain(array: np.ndarray) -> np.ndarray:
    """Returns bfloat16 as float32: the process that compares knows no such dtype."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else np.asarray(array)
