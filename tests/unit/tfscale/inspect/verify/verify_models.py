"""Functions for `tfscale verify`, as users write them: right, wrong by nature, and wrong usage."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers


def rows(count: int = 59) -> tuple[np.ndarray, np.ndarray]:
    """Of batches of 16 the last holds 11, which 2 replicas share unevenly."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 3)).astype("float32")
    return x, generator.normal(size=(count, 1)).astype("float32")


def compiled(*parts: Any, **arguments: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), *parts])
    # Compiling with XLA, which "auto" does on one device, takes longer than all the rest.
    model.compile(**{"optimizer": "sgd", "loss": "mse", "jit_compile": False, **arguments})
    return model


def clipped() -> Any:
    model = compiled(
        layers.Dense(8, "relu", name="front"),
        layers.Dropout(0.5, name="drop"),
        layers.Dense(1, name="back"),
        optimizer=keras.optimizers.Adam(0.01, global_clipnorm=0.1),
        metrics=["mae"],
    )
    return model, rows()


def normalized(synchronized: bool = False) -> Any:
    model = compiled(
        layers.Dense(8, "relu", name="front"),
        layers.BatchNormalization(name="norm", synchronized=synchronized),
        layers.Dense(1, name="back"),
    )
    return model, rows()


def normalized_together() -> Any:
    return normalized(synchronized=True)


class RawSum(keras.Model):
    """Writes its own step, with a sum where one device needs no mean."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            error = self(x, training=True) - tf.cast(y, self.compute_dtype)
            loss = tf.reduce_sum(tf.square(error))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def raw_sum() -> Any:
    inputs = keras.Input((3,))
    model = RawSum(inputs, layers.Dense(1, name="back")(layers.Dense(4, name="front")(inputs)))
    model.compile(keras.optimizers.SGD(1e-3), jit_compile=False)
    return model, rows(64)


def half() -> Any:
    keras.config.set_dtype_policy("mixed_float16")
    return clipped()


class SinglePrecision(layers.Layer):
    """Cannot run in float64."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(3, 1), name="kernel")

    def call(self, inputs: Any) -> Any:
        return tf.matmul(tf.cast(inputs, tf.float32), self.kernel)


def single_precision() -> Any:
    return compiled(SinglePrecision()), rows()


def compiled_by_xla() -> Any:
    return compiled(layers.Dense(1), jit_compile=True), rows()


def no_model() -> Any:
    return 1, rows()


def no_pair() -> Any:
    return compiled(layers.Dense(1))


def not_compiled() -> Any:
    return keras.Sequential([layers.Dense(1)]), rows()


def no_data() -> Any:
    return compiled(layers.Dense(1)), "rows"


def unbatched() -> Any:
    return compiled(layers.Dense(1)), tf.data.Dataset.from_tensor_slices(rows())


def raising() -> Any:
    raise KeyError("a column")


KEPT: list[Any] = []


def kept() -> Any:
    KEPT.append(compiled(layers.Dense(1)))
    return KEPT[0], rows()
