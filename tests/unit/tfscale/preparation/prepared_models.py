"""Models with parts and arguments of `compile` that a copy can lose."""

from __future__ import annotations

from typing import Any

import keras


class Net(keras.Model):
    """A subclassed model that says how to make it again."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.hidden = keras.layers.Dense(units, "tanh")
        self.end = keras.layers.Dense(1)

    def build(self, shape: Any) -> None:
        self.hidden.build(shape)
        self.end.build((None, self.units))

    def call(self, inputs: Any) -> Any:
        return self.end(self.hidden(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def bent(x: Any) -> Any:
    return keras.ops.tanh(x) + 0.1 * x


def quartic(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean((y_true - y_pred) ** 4, axis=-1)


def sequential() -> keras.Model:
    layers = [keras.Input([4]), keras.layers.Dense(5, bent), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.05, clipnorm=1.0), "mse", metrics=["mae"])
    return model


def functional() -> keras.Model:
    """Two outputs, a layer used twice, statistics, weighted losses, metrics as objects."""
    inputs = keras.Input([4])
    shared = keras.layers.Dense(4, "tanh")
    hidden = keras.layers.BatchNormalization(momentum=0.5, synchronized=True)(
        shared(shared(inputs))
    )
    ends = [keras.layers.Dense(1, name=name)(hidden * 2.0) for name in ("first", "second")]
    model = keras.Model(inputs, ends)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        ["mse", keras.losses.Huber()],
        loss_weights=[1.0, 0.5],
        metrics=[["mae"], [keras.metrics.RootMeanSquaredError(name="rms")]],
    )
    return model


def nested() -> keras.Model:
    """A model used twice inside of another, whose first layer is frozen."""
    inner = keras.Sequential(
        [keras.Input([4]), keras.layers.Dense(4, "tanh"), keras.layers.Dense(4)]
    )
    inner.layers[0].trainable = False
    inputs = keras.Input([4])
    model = keras.Model(inputs, keras.layers.Dense(1)(inner(inner(inputs))))
    model.compile(keras.optimizers.AdamW(0.05, global_clipnorm=1.0), "mse")
    return model


def subclassed() -> keras.Model:
    model = Net(3)
    model.build([None, 4])
    model.compile(keras.optimizers.RMSprop(0.05, use_ema=True), quartic, steps_per_execution=2)
    return model


MODELS = (sequential, functional, nested, subclassed)
