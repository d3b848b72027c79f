"""Training gives another model without an error, because of the contents of a batch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from tests.defects.row import Findings, Run, X, Y, row, trained


class Mixes(keras.Model):
    """Mixes the features of its first input by the rows of its second."""

    def __init__(self) -> None:
        super().__init__()
        self.end = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        features, mixture = inputs
        return self.end(keras.ops.matmul(features, keras.ops.sum(mixture, axis=0)[:, None]))


@row(
    "S27",
    "a tensor common to all examples, passed with a batch",
    refused="tfscale.data.shared(part)",
)
def side_tensor(run: Run) -> Findings:
    with run.strategy.scope():
        model = Mixes()
        model.compile(keras.optimizers.SGD(0.1), "mse")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8, drop_remainder=True)
    data = data.map(lambda x, y: ((x, tf.constant(X[:4])), y))
    model.fit(data, epochs=3, verbose=0)
    return trained(model)
