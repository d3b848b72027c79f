"""The loss of a step on its way to a watch: recorded, and read in the graph it was recorded in."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.keras_support.context.step_context import (
    StepContext,
    current_step,
    taking_step,
)

pytestmark = pytest.mark.own_process


def context() -> StepContext:
    return StepContext(tf.constant(2))


def test_a_step_has_no_loss_before_one_is_recorded() -> None:
    assert context().recorded_loss() is None


def test_the_last_recorded_loss_counts_and_is_summed() -> None:
    step = context()
    step.record_loss(tf.constant(1.0))
    step.record_loss(tf.constant([2.0, 3.0]))
    loss = step.recorded_loss()
    assert loss is not None
    assert loss.numpy() == 5.0


def test_a_loss_of_an_inner_function_is_not_read_outside_of_it() -> None:
    seen: list[Any] = []

    @tf.function(autograph=False)
    def outer() -> tf.Tensor:
        step = context()

        @tf.function(autograph=False)
        def inner() -> tf.Tensor:
            step.record_loss(tf.constant(1.0))
            seen.append(step.recorded_loss() is not None)
            return tf.constant(0.0)

        result = inner()
        seen.append(step.recorded_loss() is not None)
        return result

    outer()
    assert seen == [True, False]


def test_keras_own_step_records_the_loss_that_it_minimizes() -> None:
    with strategies.one_device_strategy().scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        model.compile("sgd", "mse")
        model.layers[0].set_weights([np.array([[3.0]])])
    step = context()
    with taking_step(step), model.distribute_strategy.scope():
        assert current_step() is step
        model.distribute_strategy.run(
            lambda: model.train_step((tf.constant([[1.0], [2.0]]), tf.constant([[1.0], [2.0]])))
        )
    loss = step.recorded_loss()
    assert loss is not None
    assert float(loss) == pytest.approx((2.0**2 + 4.0**2) / 2)
