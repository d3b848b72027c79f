"""The model zoo: small models, each with something that is hard to distribute.

These are ordinary ones. Later kinds are, by concern, in own_layers, own_gradients, own_conditions,
tables, own_losses, beside and own_parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tests.parity import (
    beside,
    own_conditions,
    own_gradients,
    own_layers,
    own_losses,
    own_parts,
    staged,
    tables,
)
from tests.parity.configuration import Configuration
from tests.parity.examples import FEATURES, IMAGE, OUTPUTS, TIME, VOCABULARY

layers = keras.layers


def _mlp() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(7, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
            layers.Dense(OUTPUTS, kernel_constraint=keras.constraints.MaxNorm(1.0)),
        ]
    )


def _cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((IMAGE, IMAGE, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(OUTPUTS),
        ]
    )


def _cnn_batchnorm() -> keras.Model:
    """Synchronized, because statistics of single replica batches would differ."""
    return keras.Sequential(
        [
            keras.Input((IMAGE, IMAGE, 1)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(synchronized=True),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(OUTPUTS),
        ]
    )


def _lstm() -> keras.Model:
    """Its output has the mask: the loss is a mean over the tokens that are not masked."""
    return keras.Sequential(
        [
            keras.Input((TIME,), dtype="int32"),
            layers.Embedding(VOCABULARY, 4, mask_zero=True),
            layers.LSTM(5, return_sequences=True),
            layers.Dense(OUTPUTS),
        ]
    )


def _attention() -> keras.Model:
    tokens = keras.Input((TIME,), dtype="int32")
    embedded = layers.Embedding(VOCABULARY, 4, mask_zero=True)(tokens)
    # A bias of the keys cancels in the softmax: its gradient is only rounding, which Adam and
    # similar optimizers amplify.
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=3, use_bias=False)
    attended = attention(embedded, embedded)
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(attended))
    return keras.Model(tokens, layers.Dense(OUTPUTS)(pooled))


def _two_outputs() -> keras.Model:
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(7, activation="tanh")(inputs)
    value = layers.Dense(OUTPUTS, name="value")(hidden)
    label = layers.Dense(OUTPUTS, name="label")(hidden)
    return keras.Model(inputs, {"value": value, "label": label})


class OwnStep(keras.Sequential):
    """A custom step with Keras's loss."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weights)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(x)[0])
            else:
                metric.update_state(y, predicted, sample_weight=weights)
        return {metric.name: metric.result() for metric in self.metrics}


def _own_step() -> keras.Model:
    return OwnStep(
        [keras.Input((FEATURES,)), layers.Dense(7, activation="tanh"), layers.Dense(OUTPUTS)]
    )


class RawStep(keras.Model):
    """Takes the mean of the squares with TensorFlow, as many training loops do."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(7, activation="tanh")
        self.output_layer = layers.Dense(OUTPUTS)
        self.seen = keras.metrics.Mean(name="own_loss")

    def call(self, x: Any) -> Any:
        return self.output_layer(self.hidden(x))

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(y - self(x, training=True)))
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        # An empty replica batch has the loss NaN, which no weight of 0 removes.
        rows = tf.shape(x)[0]
        self.seen.update_state(tf.where(rows > 0, loss, 0), sample_weight=rows)
        return {"own_loss": self.seen.result()}


class Subclass(keras.Model):
    """Built by its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(7, activation="gelu")
        self.normalize = layers.LayerNormalization()
        self.output_layer = layers.Dense(OUTPUTS)

    def call(self, x: Any) -> Any:
        return self.output_layer(self.normalize(self.hidden(x)))


class Penalty(keras.Layer):
    """Adds a mean over the rows to the loss."""

    def call(self, x: Any) -> Any:
        # Keras adds it to the loss unchanged, and the loss is not in half precision.
        wide = keras.ops.cast(x, self.variable_dtype)
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(wide)))
        return x


def _add_loss() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(7, activation="tanh"),
            Penalty(),
            layers.Dense(OUTPUTS),
        ]
    )


def _activity() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(7, activation="tanh", activity_regularizer=keras.regularizers.L2(0.01)),
            layers.Dense(OUTPUTS),
        ]
    )


def _strings() -> keras.Model:
    words = [str(word) for word in range(VOCABULARY)]
    return keras.Sequential(
        [
            keras.Input((TIME,), dtype="string"),
            layers.StringLookup(vocabulary=words),
            layers.Embedding(VOCABULARY + 1, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(OUTPUTS),
        ]
    )


MODELS: dict[str, Callable[[], keras.Model]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "cnn_batchnorm": _cnn_batchnorm,
    "lstm": _lstm,
    "attention": _attention,
    "two_outputs": _two_outputs,
    "own_step": _own_step,
    "raw_step": RawStep,
    "subclass": Subclass,
    "add_loss": _add_loss,
    "activity": _activity,
    "strings": _strings,
}


NEW_MODELS: dict[str, Callable[[Configuration], keras.Model]] = {
    **own_layers.BUILDERS,
    **own_gradients.BUILDERS,
    **own_conditions.BUILDERS,
    **tables.BUILDERS,
    **own_losses.BUILDERS,
    **beside.BUILDERS,
    **own_parts.BUILDERS,
    **staged.BUILDERS,
}


def build_model(configuration: Configuration) -> keras.Model:
    """Returns the configuration's model, not compiled; initial weights follow Keras's seed."""
    if configuration.model in MODELS:
        return MODELS[configuration.model]()
    return NEW_MODELS[configuration.model](configuration)
