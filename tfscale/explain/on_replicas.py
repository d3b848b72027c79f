"""Computes something for rows on all replicas of a model's strategy.

A model whose `predict_step` computes it, so that rows are divided and put together again as in
`predict`: on any number of replicas and workers, in the order of the input.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import all_layers, is_asynchronous, is_divided, pipeline_of

Step = Callable[[Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]


class OnReplicas:
    """A computation of a model's rows on all replicas.

    Args:
        model: The model; it is left as it is.
        step: Takes arrays of a replica's rows by name, and returns tensors with as many rows.
    """

    def __init__(self, model: keras.Model, step: Step) -> None:
        strategy = model.distribute_strategy
        with strategy.scope():
            self._computing = _Computing(model, step)
        self._computing.built = True  # Its parts are.

    def __call__(self, arrays: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
        """Computes the step of all rows.

        Args:
            arrays: Rows by name.
            batch_size: Rows at a time, on all replicas together.
        """
        # A dataset, because Keras makes arrays of float64 float32.
        rows = tf.data.Dataset.from_tensor_slices(dict(arrays)).batch(batch_size)
        with _without_warnings_of_tracing():
            found: dict[str, np.ndarray] = self._computing.predict(rows, verbose=0)
        return found


@contextlib.contextmanager
def _without_warnings_of_tracing() -> Iterator[None]:
    """Leaves out that functions are traced often: each computation is one of its own."""

    def is_other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


class _Computing(keras.Model):
    def __init__(self, model: keras.Model, step: Step) -> None:
        super().__init__(name=f"explaining_{model.name}")
        self.model = model
        self._step = step

    def predict_step(self, data: Any) -> Any:
        return self._step(data)


def check_model(model: Any) -> None:
    """Checks that a model can be explained.

    Raises:
        ValueError: If it is no built Keras model, or lies on servers or stages.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a keras.Model. Received: {type(model).__name__}. Load a file with "
            "keras.saving.load_model."
        )
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: {model.name!r}, which has no weights yet. Train it, "
            "or load its weights."
        )
    where = ""
    if is_asynchronous(model.distribute_strategy):
        where = "on parameter servers"
    elif pipeline_of(model) is not None:
        where = "in the stages of a pipeline"
    elif any(is_divided(layer) for layer in all_layers(model)):
        where = "with matrices divided over devices"
    if where:
        raise ValueError(
            f"`model` must be whole on each replica. Received: {model.name!r}, which is {where}. "
            "Save it, and explain what keras.saving.load_model returns."
        )


def check_outputs(where: str, rows: np.ndarray, *outputs: np.ndarray) -> None:
    """Checks that outputs are finite.

    Args:
        where: Which inputs they are of, for the message.
        rows: Number of the row of each output.
        *outputs: Arrays of shape [rows].

    Raises:
        ValueError: If one is not finite.
    """
    for values in outputs:
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise ValueError(
                f"`model` must have finite outputs {where}. Received: {values[wrong[0]]} for row "
                f"{rows[wrong[0]]}. Look at model.predict of this row, and choose values that the "
                "model can take."
            )
