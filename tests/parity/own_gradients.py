"""Custom steps that change gradients before they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tests.parity.configuration import Configuration
from tests.parity.examples import FEATURES, OUTPUTS

layers = keras.layers
Gradients = list[Any]


class OwnGradients(keras.Sequential):
    """An MLP with a custom step; the models override one of its methods."""

    def __init__(self) -> None:
        hidden = layers.Dense(7, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01))
        super().__init__([keras.Input((FEATURES,)), hidden, layers.Dense(OUTPUTS)])

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        gradients, loss, predicted = self.gradients(x, y, weights)
        gradients, logs = self.handled(gradients)
        self.update(gradients)
        self.after()
        return self.noted(x, y, weights, loss, predicted) | logs

    def gradients(self, x: Any, y: Any, weights: Any) -> tuple[Gradients, Any, Any]:
        """Returns gradients, the loss and the predictions."""
        with tf.GradientTape() as tape:
            loss, predicted = self.total_loss(x, y, weights)
            scaled = self.optimizer.scale_loss(loss)
        return tape.gradient(scaled, self.trainable_variables), loss, predicted

    def total_loss(self, x: Any, y: Any, weights: Any) -> tuple[Any, Any]:
        """Returns the loss and the predictions."""
        predicted = self(x, training=True)
        loss = self.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weights)
        return loss + self.penalty(x, predicted), predicted

    def penalty(self, x: Any, predicted: Any) -> Any:
        """Returns what is added to the compiled loss."""
        return 0.0

    def handled(self, gradients: Gradients) -> tuple[Gradients, dict[str, Any]]:
        """Returns the gradients to apply, and logs about them."""
        return gradients, {}

    def update(self, gradients: Gradients) -> None:
        """Applies the gradients."""
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))

    def after(self) -> None:
        """Called after the update."""

    def noted(self, x: Any, y: Any, weights: Any, loss: Any, predicted: Any) -> dict[str, Any]:
        """Updates metrics as Keras's step does, and returns their results."""
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        return dict(self.compute_metrics(x, y, predicted, sample_weight=weights))


class ClippedGradients(OwnGradients):
    """Clips by the norm of all gradients and logs it, as PyTorch's users do."""

    def handled(self, gradients: Gradients) -> tuple[Gradients, dict[str, Any]]:
        clipped, norm = tf.clip_by_global_norm(gradients, 0.3)
        return clipped, {"gradient_norm": norm}


class AdaptiveClipping(OwnGradients):
    """Clips each unit's gradient by the norm of its weights (Brock et al. 2021)."""

    def handled(self, gradients: Gradients) -> tuple[Gradients, dict[str, Any]]:
        clipped = []
        for gradient, variable in zip(gradients, self.trainable_variables, strict=True):
            limit = 0.05 * tf.maximum(tf.norm(variable.value, axis=0, keepdims=True), 1e-3)
            norm = tf.norm(gradient, axis=0, keepdims=True)
            scale = tf.minimum(limit / tf.maximum(norm, 1e-12), 1.0)
            clipped.append(gradient * tf.cast(scale, gradient.dtype))
        return clipped, {}


class SquashedGradients(OwnGradients):
    """Takes a smooth sign of each entry."""

    def handled(self, gradients: Gradients) -> tuple[Gradients, dict[str, Any]]:
        largest = tf.reduce_max([tf.reduce_max(tf.abs(g)) for g in gradients])
        return [tf.tanh(10.0 * g) for g in gradients], {"largest": largest}


class CentralizedGradients(OwnGradients):
    """Subtracts the mean of each unit's gradient (Yong et al. 2020)."""

    def handled(self, gradients: Gradients) -> tuple[Gradients, dict[str, Any]]:
        centered = [
            g - tf.reduce_mean(g, axis=0, keepdims=True) if g.shape.rank > 1 else g
            for g in gradients
        ]
        return centered, {}


class SharpnessAware(OwnGradients):
    """Takes the gradient where the loss is largest nearby (Foret et al. 2020)."""

    def gradients(self, x: Any, y: Any, weights: Any) -> tuple[Gradients, Any, Any]:
        first, loss, predicted = super().gradients(x, y, weights)
        scale = 0.05 / (tf.linalg.global_norm(first) + 1e-12)
        before = [tf.identity(variable.value) for variable in self.trainable_variables]
        for gradient, variable in zip(first, self.trainable_variables, strict=True):
            variable.assign_add(scale * gradient)
        second, _, _ = super().gradients(x, y, weights)
        for value, variable in zip(before, self.trainable_variables, strict=True):
            variable.assign(value)
        return second, loss, predicted


class GradientPenalty(OwnGradients):
    """Adds the square of the gradient's norm to the loss: a gradient of a gradient."""

    def gradients(self, x: Any, y: Any, weights: Any) -> tuple[Gradients, Any, Any]:
        variables = self.trainable_variables
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss, predicted = self.total_loss(x, y, weights)
                scaled = self.optimizer.scale_loss(loss)
            gradients = inner.gradient(scaled, variables)
            squares = tf.add_n([tf.reduce_sum(tf.square(g)) for g in gradients])
            total = scaled + 0.05 * squares
        return outer.gradient(total, variables), loss, predicted


class TwoLosses(OwnGradients):
    """Projects conflicting gradients of two losses (Yu et al. 2020)."""

    def gradients(self, x: Any, y: Any, weights: Any) -> tuple[Gradients, Any, Any]:
        variables = self.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            loss, predicted = self.total_loss(x, y, weights)
            scaled = self.optimizer.scale_loss(loss)
            other = self.optimizer.scale_loss(tf.reduce_mean(tf.square(predicted + 1.0)))
        first, second = tape.gradient(scaled, variables), tape.gradient(other, variables)
        dot = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(first, second, strict=True)])
        square = tf.add_n([tf.reduce_sum(tf.square(b)) for b in second])
        against = tf.minimum(dot, 0.0) / (square + 1e-12)
        projected = [a - against * b + b for a, b in zip(first, second, strict=True)]
        return projected, loss, predicted


class InnerStep(keras.Sequential):
    """Trains weights from which one more step does well (MAML, Finn et al. 2017)."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        variables = self.trainable_variables
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                first = tf.reduce_mean(tf.square(y - _forward(x, _values(variables))))
            moves = inner.gradient(first, variables)
            moved = [w - 0.1 * m for w, m in zip(_values(variables), moves, strict=True)]
            loss = tf.reduce_mean(tf.square(y - _forward(x, moved)))
            scaled = self.optimizer.scale_loss(loss)
        gradients = outer.gradient(scaled, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {"own_loss": loss}


def _values(variables: Any) -> list[Any]:
    return [variable.value for variable in variables]


def _forward(x: Any, weights: list[Any]) -> Any:
    w1, b1, w2, b2 = weights
    return tf.matmul(tf.tanh(tf.matmul(x, w1) + b1), w2) + b2


def _inner_step() -> keras.Model:
    return InnerStep(
        [keras.Input((FEATURES,)), layers.Dense(7, activation="tanh"), layers.Dense(OUTPUTS)]
    )


def _of(build: Callable[[], keras.Model]) -> Callable[[Configuration], keras.Model]:
    return lambda _: build()


BUILDERS: dict[str, Callable[[Configuration], keras.Model]] = {
    "clipped_gradients": _of(ClippedGradients),
    "adaptive_clipping": _of(AdaptiveClipping),
    "squashed_gradients": _of(SquashedGradients),
    "centralized_gradients": _of(CentralizedGradients),
    "sharpness_aware": _of(SharpnessAware),
    "gradient_penalty": _of(GradientPenalty),
    "two_losses": _of(TwoLosses),
    "inner_step": _of(_inner_step),
}
