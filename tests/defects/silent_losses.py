"""Losses and metrics of the user's own count wrongly, without an error."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tests.defects.row import Findings, Run, X, Y, row, trained


class Endpoint(layers.Layer):
    """Gives `add_loss` the loss of each example, as keras.io's CTC endpoint layer does."""

    def call(self, inputs: Any) -> Any:
        self.add_loss(keras.ops.sum(keras.ops.square(inputs), axis=-1, keepdims=True))
        return inputs


@row("S23", "a vector given to `add_loss`")
def vector_in_add_loss(run: Run) -> Findings:
    with run.strategy.scope():
        dense = layers.Dense(2, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((3,)), dense, Endpoint()])
        model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("S24", "`compile` outside of the scope, a batch of one example")
def compiled_outside(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_initializer="ones")])
        optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, "mse")
    history = model.fit(X[:5], Y[:5], batch_size=1, shuffle=False, verbose=0).history
    return {"loss in history": history["loss"][0]}
