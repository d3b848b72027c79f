"""Models with plain BatchNormalization whose steps call the layer once or twice."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

Normalization = keras.layers.BatchNormalization
MOMENTUM = 0.75


class OneOptimizer(keras.Model):
    """Normalizes its input, then learns from it."""

    calls = 1

    def __init__(self) -> None:
        super().__init__()
        self.normalization = Normalization(momentum=MOMENTUM)
        self.first = keras.layers.Dense(1)
        self.second = keras.layers.Dense(1)

    def build_all(self) -> None:
        """An optimizer that is not built cannot be built in a step on several replicas."""
        self(np.zeros([1, 3]))

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.first(self.normalization(inputs, training=training))


class TwoOptimizers(OneOptimizer):
    """Takes turns, as a GAN does: each part is trained by its own optimizer."""

    calls = 2

    def compile(self) -> None:
        super().compile(keras.optimizers.SGD(0.1), "mse")
        self.other_optimizer = keras.optimizers.Adam(0.1)

    def build_all(self) -> None:
        super().build_all()
        self.optimizer.build(self.first.trainable_variables)
        self.other_optimizer.build(self.second.trainable_variables)

    def call(self, inputs: Any, training: bool = False) -> Any:
        normalized = self.normalization(inputs, training=training)
        return self.first(normalized) + self.second(normalized)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        for part, optimizer in (
            (self.first, self.optimizer),
            (self.second, self.other_optimizer),
        ):
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, part.trainable_variables)
            optimizer.apply(gradients, part.trainable_variables)
        return {"loss": loss}


class NoOptimizer(OneOptimizer):
    """Only calls the model on the data, in training mode."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        return {"loss": self.compute_loss(y=y, y_pred=self(x, training=True))}


class LooksAgain(OneOptimizer):
    """Learns, and then calls the model a second time on the batch in training mode."""

    calls = 2

    def train_step(self, data: Any) -> dict[str, Any]:
        logs: dict[str, Any] = super().train_step(data)
        self(data[0], training=True)
        return logs
