"""How many bits the model needs for a byte of text, which does not depend on the vocabulary."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="recipes")
class BitsPerByte(keras.metrics.Metric):
    """Total nats of the predicted tokens, divided by ln 2 and by the bytes of these tokens.

    Sums are kept, not means of batches, so the result is exact for batches, rows and replicas of
    any size. A model that gives each of 256 bytes the same probability needs 8 bits.

    Args:
        bytes_of_tokens: Bytes of each token of the vocabulary.
        name: Name of the metric.
        **kwargs: Arguments of every metric of Keras.
    """

    def __init__(
        self, bytes_of_tokens: list[int], name: str = "bits_per_byte", **kwargs: Any
    ) -> None:
        # Sums of many small numbers: float32 stops counting bytes at 2**24.
        super().__init__(name=name, **{**kwargs, "dtype": "float64"})
        self.bytes_of_tokens = [int(size) for size in bytes_of_tokens]
        self.nats = self.add_weight(shape=(), initializer="zeros", dtype=self.dtype, name="nats")
        self.bytes = self.add_weight(shape=(), initializer="zeros", dtype=self.dtype, name="bytes")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: Tokens, int [batch, length].
            y_pred: Logits, [batch, length, num_tokens].
            sample_weight: 1 for tokens that count and 0 for others, [batch, length]. None counts
                all of them.
        """
        nats = tf.convert_to_tensor(
            keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        )
        sizes = tf.gather(tf.constant(self.bytes_of_tokens, nats.dtype), tf.cast(y_true, tf.int32))
        if sample_weight is not None:
            weights = tf.cast(sample_weight, nats.dtype)
            nats, sizes = nats * weights, sizes * weights
        # The sums of rows are few, so float64 costs nothing, even where it is emulated. Not with
        # keras.ops, which compute in float32 unless the model has float64.
        for total, part in ((self.nats, nats), (self.bytes, sizes)):
            of_rows = tf.reduce_sum(part, axis=-1)
            total.assign_add(tf.reduce_sum(tf.cast(of_rows, tf.float64)))

    def result(self) -> Any:
        """Returns bits per byte, 0 before any byte."""
        nats, count = tf.convert_to_tensor(self.nats), tf.convert_to_tensor(self.bytes)
        return tf.math.divide_no_nan(nats / math.log(2), count)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "bytes_of_tokens": self.bytes_of_tokens}
