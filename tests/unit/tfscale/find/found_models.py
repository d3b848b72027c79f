"""Models and data to find a learning rate for, and all that training leaves of them."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfscale

ROWS = 60
X = np.random.default_rng(0).normal(size=(ROWS, 4))
Y = X[:, :1] - 0.5 * X[:, 1:2]
BATCH = 8


class Shuffled(keras.utils.PyDataset):
    """Batches that come in another order in each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.order = list(range(7))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Any:
        rows = slice(self.order[index] * BATCH, (self.order[index] + 1) * BATCH)
        return X[rows], Y[rows]

    def on_epoch_end(self) -> None:
        random.shuffle(self.order)


def network(strategy: tf.distribute.Strategy | None, optimizer: str, *, is_built: bool) -> Any:
    keras.utils.set_random_seed(5)
    with strategy.scope() if strategy else contextlib.nullcontext():
        layers: list[Any] = [keras.Input((4,))] if is_built else []
        layers += [
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
        model = keras.Sequential(layers)
        model.compile(_optimizer(optimizer), "mse", metrics=["mae"], steps_per_execution=2)
    return model


def _optimizer(kind: str) -> keras.optimizers.Optimizer:
    if kind == "schedule":
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 100))
    if kind == "accumulating":
        return keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
    if kind == "averaging":
        return keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True)
    if kind == "scaled":
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))
    return keras.optimizers.Adam(0.01)


def data_of(kind: str, strategy: Any) -> Any:
    if kind == "dataset":
        return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(ROWS).batch(BATCH)
    if kind == "py_dataset":
        return Shuffled()
    if kind == "pipeline":
        return tfscale.data.input_pipeline((X, Y), strategy, global_batch_size=BATCH, seed=1)
    return X, Y


def fit(model: Any, data: Any, epochs: int) -> Any:
    x, y, size = (*data, BATCH) if isinstance(data, tuple) else (data, None, None)
    return model.fit(x, y, batch_size=size, epochs=epochs, verbose=0).history


def left(model: Any) -> list[Any]:
    """Returns the state of a training and the next random numbers."""
    drawn = [random.random(), np.random.normal(), *(float(each) for each in _drawn())]
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [*(variable.numpy().tolist() for variable in variables), drawn]


def _drawn() -> list[Any]:
    return [tf.random.uniform([]), keras.random.uniform([])]
