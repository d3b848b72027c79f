"""Custom steps that decide in the graph whether to apply gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tests.parity.compiling import build_optimizer
from tests.parity.configuration import Configuration
from tests.parity.own_gradients import Gradients, OwnGradients


class OwnAccumulation(OwnGradients):
    """Adds gradients up in variables and applies every third sum."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = [
            keras.Variable(tf.zeros(v.shape, v.dtype), trainable=False, name=f"sum_{i}")
            for i, v in enumerate(self.trainable_variables)
        ]
        self.steps = keras.Variable(0, dtype="int32", trainable=False, name="steps")

    def update(self, gradients: Gradients) -> None:
        self.steps.assign_add(1)
        for total, gradient in zip(self.sums, gradients, strict=True):
            total.assign_add(gradient / 3.0)
        tf.cond(tf.equal(self.steps.value % 3, 0), self.apply_sums, lambda: tf.constant(0))

    def apply_sums(self) -> tf.Tensor:
        """Applies the accumulated gradients, and resets them to zero."""
        sums = [total.value for total in self.sums]
        self.optimizer.apply_gradients(zip(sums, self.trainable_variables, strict=True))
        for total in self.sums:
            total.assign(tf.zeros(total.shape, total.dtype))
        return tf.constant(1)


class EveryOtherStep(OwnGradients):
    """Two optimizers, one of which updates its layer every other step only."""

    def __init__(self, other: Any) -> None:
        super().__init__()
        self.other = other

    def compile(self, optimizer: Any, **options: Any) -> None:
        super().compile(optimizer, **options)
        optimizer.build(self.layers[1].trainable_variables)
        self.other.build(self.layers[0].trainable_variables)

    def update(self, gradients: Gradients) -> None:
        first, second = self.layers[0].trainable_variables, self.layers[1].trainable_variables
        own, others = gradients[len(first) :], gradients[: len(first)]
        self.optimizer.apply_gradients(zip(own, second, strict=True))

        def apply_others() -> tf.Tensor:
            self.other.apply_gradients(zip(others, first, strict=True))
            return tf.constant(1)

        is_even = tf.equal(tf.convert_to_tensor(self.optimizer.iterations) % 2, 0)
        tf.cond(is_even, apply_others, lambda: tf.constant(0))


class SkippedSteps(OwnGradients):
    """Applies nothing if a gradient is not finite, or if all are large: some rows cause that."""

    def update(self, gradients: Gradients) -> None:
        norm = tf.linalg.global_norm(gradients)

        def apply() -> tf.Tensor:
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return tf.constant(1)

        self.is_good = tf.math.is_finite(norm) & (norm < 1e6)
        tf.cond(self.is_good, apply, lambda: tf.constant(0))

    def noted(self, x: Any, y: Any, weights: Any, loss: Any, predicted: Any) -> dict[str, Any]:
        # The norm is that of the whole batch; only one replica knows the loss of the planted row.
        noted = tf.where(self.is_good, loss, 0.0)
        return super().noted(x, tf.clip_by_value(y, -9.0, 9.0), weights, noted, predicted)


class SlowWeights(OwnGradients):
    """Moves weights back half of the way every fifth step (Zhang et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = [
            keras.Variable(v.numpy(), trainable=False, name=f"slow_{i}")
            for i, v in enumerate(self.trainable_variables)
        ]

    def after(self) -> None:
        def go_back() -> tf.Tensor:
            for slow, fast in zip(self.slow, self.trainable_variables, strict=True):
                slow.assign(0.5 * (slow + fast))
                fast.assign(slow)
            return tf.constant(1)

        is_fifth = tf.equal(tf.convert_to_tensor(self.optimizer.iterations) % 5, 0)
        tf.cond(is_fifth, go_back, lambda: tf.constant(0))


class FunctionStep(OwnGradients):
    """Decorates its step, as is usual in custom training loops."""

    @tf.function
    def train_step(self, data: Any) -> dict[str, Any]:
        return super().train_step(data)


class FunctionsInStep(OwnGradients):
    """Takes two updates a step, each in a `tf.function`."""

    @tf.function
    def one_update(self, x: Any, y: Any, weights: Any) -> tuple[Any, Any]:
        gradients, loss, predicted = self.gradients(x, y, weights)
        self.update(gradients)
        return loss, predicted

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        self.one_update(x, y, weights)
        loss, predicted = self.one_update(x, y, weights)
        return self.noted(x, y, weights, loss, predicted)


def _of(build: Callable[[], keras.Model]) -> Callable[[Configuration], keras.Model]:
    return lambda _: build()


BUILDERS: dict[str, Callable[[Configuration], keras.Model]] = {
    "own_accumulation": _of(OwnAccumulation),
    "every_other_step": lambda configuration: EveryOtherStep(build_optimizer(configuration)),
    "skipped_steps": _of(SkippedSteps),
    "slow_weights": _of(SlowWeights),
    "function_step": _of(FunctionStep),
    "functions_in_step": _of(FunctionsInStep),
}
