"""Custom losses and metrics are wrong without an error."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
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


@row("S24", "`compile` outside the scope, a batch of one example")
def compiled_outside(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_initializer="ones")])
        optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, "mse")
    history = model.fit(X[:5], Y[:5], batch_size=1, shuffle=False, verbose=0).history
    return {"loss in history": history["loss"][0]}


class Own(keras.metrics.Metric):
    """A metric of one variable, as users write them."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.v = self.add_variable((), "zeros", name="v")

    def result(self) -> Any:
        return self.v + 0.0


class Last(Own):
    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        self.v.assign(keras.ops.mean(y))


def history_of(run: Run, metric: Any) -> list[Any]:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.01), "mse", metrics=[metric])
    history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    return list(history["own"])


@row(
    "S28",
    "a metric whose state is the last batch's mean",
    right={"last mean": np.mean(Y[16:])},
    refused="Declare the combination with",
)
def last_mean(run: Run) -> Findings:
    return {"last mean": float(history_of(run, Last())[0])}


@row("S30", "a `Mean` made outside the scope, a last batch of three examples")
def tracker_outside(run: Run) -> Findings:
    tracker = keras.metrics.Mean(name="mean")

    class Tracked(keras.Sequential):
        metrics = property(lambda self: [tracker])

        def test_step(self, data: Any) -> dict[str, Any]:
            tracker.update_state(tf.reduce_mean(data[1]))
            return {"mean": tracker.result()}

    with run.strategy.scope():
        model = Tracked([keras.Input((3,)), layers.Dense(2)])
        model.compile()
    found = model.evaluate(X[:7], Y[:7], batch_size=4, verbose=0, return_dict=True)
    return {"mean": float(found["mean"])}
