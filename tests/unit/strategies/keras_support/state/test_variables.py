"""Variables with copies on replicas are Python numbers; gradients applied outside steps."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


@pytest.fixture
def model(strategy: tf.distribute.Strategy) -> Any:
    with strategy.scope():
        dense = keras.layers.Dense(2, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((3,)), dense])
        model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


def test_a_callback_reads_the_rate_and_the_steps_as_numbers(model: Any) -> None:
    seen: list[Any] = []

    def look(epoch: int, logs: Any) -> None:
        optimizer = model.optimizer
        seen.append((float(optimizer.learning_rate), int(optimizer.iterations)))
        seen.append((np.asarray(optimizer.learning_rate), optimizer.iterations.numpy()))

    callback = keras.callbacks.LambdaCallback(on_epoch_end=look)
    model.fit(np.ones([6, 3]), np.ones([6, 2]), batch_size=3, callbacks=[callback], verbose=0)
    assert seen == [(0.5, 2), (0.5, 2)]
    assert type(seen[0][0]) is float


def test_a_variable_of_several_numbers_is_not_a_number(model: Any) -> None:
    with pytest.raises(TypeError, match="Only scalar arrays can be converted"):
        float(model.layers[0].kernel)


def test_gradients_applied_outside_the_scope_change_all_copies_equally(
    strategy: tf.distribute.Strategy, model: Any
) -> None:
    gradients = [tf.ones(variable.shape) for variable in model.trainable_variables]
    model.optimizer.apply(gradients, model.trainable_variables)
    kernel = model.layers[0].kernel.value
    copies = [copy.numpy() for copy in strategy.experimental_local_results(kernel)]
    np.testing.assert_array_equal(copies, np.full([2, 3, 2], 0.5))
    assert int(model.optimizer.iterations) == 1


def test_gradients_applied_inside_the_scope_are_refused(
    strategy: tf.distribute.Strategy, model: Any
) -> None:
    gradients = [tf.ones(variable.shape) for variable in model.trainable_variables]
    with strategy.scope(), pytest.raises(ValueError, match=r"`optimizer\.apply` must be"):
        model.optimizer.apply(gradients, model.trainable_variables)
