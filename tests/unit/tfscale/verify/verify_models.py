"""Functions for `tfscale verify`, as users write them: correct ones, wrong ones, and wrong
usage."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfscale.parallel import TensorRule


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


RULES = [TensorRule("(.*/)?front", "column"), TensorRule("(.*/)?back", "row")]


def twice_dense() -> Any:
    """Layers below and between those that RULES divide; a stage needs a layer of its own."""
    layers_of_it = [layers.Dense(6, "tanh", name="first"), layers.Dense(8, "relu", name="front")]
    model = compiled(
        *layers_of_it,
        layers.Dense(4, name="back"),
        layers.Dense(1, name="last"),
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


class OwnStep(keras.Model):
    """Hands a loss of its own to the optimizer."""

    def own_loss(self, outputs: Any, y: Any) -> Any:
        raise NotImplementedError

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.own_loss(self(x, training=True), y)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}

    @classmethod
    def compiled(cls) -> Any:
        inputs = keras.Input((3,))
        model = cls(inputs, layers.Dense(2, name="back")(layers.Dense(4, name="front")(inputs)))
        model.compile(keras.optimizers.SGD(1e-2), jit_compile=False)
        return model, rows(64)


class DividedByItsCount(OwnStep):
    """Divides by the rows that it finds positive."""

    def own_loss(self, outputs: Any, y: Any) -> Any:
        positive = tf.cast(y > 0, y.dtype)
        return tf.reduce_sum(positive * (outputs - y) ** 2) / tf.reduce_sum(positive)


class Contrastive(OwnStep):
    """Tells each row from all others of its batch."""

    def own_loss(self, outputs: Any, y: Any) -> Any:
        rows = tf.math.l2_normalize(outputs, 1)
        similarities = tf.matmul(rows, rows * (1 + y), transpose_b=True)
        labels = tf.range(tf.shape(rows)[0])
        loss = keras.losses.sparse_categorical_crossentropy(labels, similarities, from_logits=True)
        return tf.reduce_mean(loss)


class RootOfMean(OwnStep):
    """Is no mean, though it is computed from one."""

    def own_loss(self, outputs: Any, y: Any) -> Any:
        return tf.sqrt(tf.reduce_mean((outputs - y) ** 2))


class DividedByReplicas(OwnStep):
    """Was written for a loop of one's own around `strategy.run`."""

    def own_loss(self, outputs: Any, y: Any) -> Any:
        return shared_out(tf.reduce_mean((outputs - y) ** 2))


def shared_out(loss: Any) -> Any:
    return loss / tf.distribute.get_strategy().num_replicas_in_sync


divided_by_its_count = DividedByItsCount.compiled
contrastive = Contrastive.compiled
root_of_mean = RootOfMean.compiled
divided_by_replicas = DividedByReplicas.compiled


class Centered(layers.Layer):
    """Takes the mean of its batch away."""

    def call(self, inputs: Any) -> Any:
        return inputs - tf.reduce_mean(inputs, axis=0)


def centered() -> Any:
    return compiled(layers.Dense(4), Centered(name="centered"), layers.Dense(1)), rows()


class Counted(layers.Layer):
    """Counts positive values, and does not declare it."""

    def build(self, shape: Any) -> None:
        self.count = self.add_weight(
            shape=shape[-1:], initializer="zeros", trainable=False, name="count"
        )

    def call(self, inputs: Any) -> Any:
        self.count.assign_add(tf.reduce_sum(tf.cast(inputs > 0, self.count.dtype), axis=0))
        return inputs


def counted() -> Any:
    return compiled(layers.Dense(4), Counted(name="counted"), layers.Dense(1)), rows()


class Autoencoder(keras.Model):
    """Has a `train_step` for bare rows and no `call`, as Keras's VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((3,)), layers.Dense(2, "tanh")])
        self.decoder = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        self.opt = keras.optimizers.Adam(0.01)

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            error = self.decoder(self.encoder(data)) - data
            loss = tf.reduce_mean(tf.reduce_sum(error**2, axis=1))
        weights = self.trainable_weights
        self.opt.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def bare_rows() -> Any:
    model = Autoencoder()
    model.compile(jit_compile=False)
    return model, tf.data.Dataset.from_tensor_slices(rows()[0]).batch(16)


def ragged() -> Any:
    words = tf.ragged.constant([[1, 2], [3], [4, 5, 6], [1], [2, 2], [5]] * 6)
    outputs = np.arange(36.0)[:, None] / 36
    pooled = layers.Lambda(lambda inputs: tf.reduce_mean(inputs, axis=1))
    model = keras.Sequential([layers.Embedding(8, 3), pooled, layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model, tf.data.Dataset.from_tensor_slices((words, outputs)).batch(10)


class Noisy(OwnStep):
    """Adds noise to its outputs, as a VAE does."""

    def own_loss(self, outputs: Any, y: Any) -> Any:
        noise = tf.random.normal(tf.shape(outputs), dtype=outputs.dtype)
        return tf.reduce_mean((outputs + noise - y) ** 2)


noisy = Noisy.compiled
