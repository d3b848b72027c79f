"""What each replica holds under shard=1, 2 and 3, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.unit.strategies.keras_support.beside_one_device import X, Y

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

KERNEL, BIAS, OUTPUT = 3 * 8, 8, 8 * 2
BYTES = 8 * (KERNEL + BIAS + OUTPUT)
"""Of the parameters of `built` in float64; each largest axis is of 8 rows."""


@pytest.fixture(scope="module")
def sharded() -> Callable[[int], tf.distribute.Strategy]:
    made: dict[int, tf.distribute.Strategy] = {}

    def by_stage(stage: int) -> tf.distribute.Strategy:
        if stage not in made:
            made[stage] = strategies.mirrored_strategy(4, shard=stage)
        return made[stage]

    return by_stage


def built(strategy: tf.distribute.Strategy, optimizer: Any = "adam") -> Any:
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(8), keras.layers.Dense(2, use_bias=False)]
        )
        model.compile(optimizer() if callable(optimizer) else optimizer, "mse")
        model.optimizer.build(model.trainable_variables)
    return model


def bytes_by_device(strategy: Any, variables: list[Any]) -> dict[str, int]:
    """Returns what the variables that TensorFlow keeps for Keras's hold on each device."""
    held = dict.fromkeys(strategy.extended.worker_devices, 0)
    for variable in variables:
        value = variable._value
        kept = getattr(value, "parts", None) or strategy.experimental_local_results(value)
        for each in kept:
            place = tf.DeviceSpec.from_string(each.device)
            end = f"{place.device_type}:{place.device_index}"
            name = next(device for device in held if device.endswith(end))
            held[name] += each.numpy().nbytes
    return held


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_each_replica_holds_its_fourth(
    stage: int, sharded: Callable[[int], tf.distribute.Strategy]
) -> None:
    strategy = sharded(stage)
    model = built(strategy)
    slots = [v for v in model.optimizer.variables if len(v.shape)]
    assert set(bytes_by_device(strategy, slots).values()) == {2 * BYTES // 4}
    parameters = BYTES // 4 if stage == 3 else BYTES
    assert set(bytes_by_device(strategy, model.variables).values()) == {parameters}


def test_an_optimizer_of_whole_variables_divides_them_among_the_replicas(
    sharded: Callable[[int], tf.distribute.Strategy],
) -> None:
    model = built(sharded(3), lambda: keras.optimizers.Lamb(0.01))
    held = bytes_by_device(sharded(3), model.variables)
    assert sorted(held.values()) == [0, 8 * BIAS, 8 * OUTPUT, 8 * KERNEL]


class Squares(keras.Model):
    """Clips by itself, with a norm of what may be parts only."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def train_step(self, data: Any) -> dict[str, Any]:
        inputs, targets = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, targets, self(inputs))
        weights = self.trainable_weights
        gradients = tape.gradient(loss, weights)
        total = tf.add_n([tf.reduce_sum(tf.square(g)) for g in gradients])
        self.optimizer.apply([g / tf.sqrt(total) for g in gradients], weights)
        return {"loss": loss}


def test_a_step_that_computes_with_its_part_of_a_gradient_is_refused(
    sharded: Callable[[int], tf.distribute.Strategy],
) -> None:
    with sharded(2).scope():
        model = Squares()
        model.dense.build((None, 3))
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match=r"is sharded, so only `optimizer.apply` can use it"):
        model.fit(X, Y, batch_size=8, verbose=0)


def test_a_variable_that_the_optimizer_was_not_built_with_is_refused(
    sharded: Callable[[int], tf.distribute.Strategy],
) -> None:
    with sharded(1).scope():
        model = Squares()
        model.compile("adam", "mse")
        model.optimizer.build([])
    with pytest.raises(ValueError, match="must be those that the optimizer was built with"):
        model.fit(X, Y, batch_size=8, verbose=0)


def test_stability_is_refused(sharded: Callable[[int], tf.distribute.Strategy]) -> None:
    stability = tfscale.callbacks.Stability()
    with pytest.raises(ValueError, match="`shard` must be 0 with the callback Stability"):
        built(sharded(1)).fit(X, Y, batch_size=8, verbose=0, callbacks=[stability])


@pytest.mark.parametrize("shard", [4, -1, True, "3", 1.0, None])
def test_another_stage_is_refused(shard: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"`shard` must be.*Received: .*slots of opt"):
        strategies.mirrored_strategy(4, shard=shard)


@pytest.mark.parametrize("stage", [1, 3])
def test_averages_are_swapped_for_an_evaluation(
    stage: int, sharded: Callable[[int], tf.distribute.Strategy]
) -> None:
    model = built(sharded(stage), lambda: keras.optimizers.Adam(0.1, use_ema=True))
    for average in model.optimizer._model_variables_moving_average:
        average.assign(np.full(average.shape, 0.5))
    before = model.get_weights()
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=False)
    swap.set_model(model)
    swap.on_test_begin()
    assert all((weight == 0.5).all() for weight in model.get_weights())
    swap.on_test_end()
    for own, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, expected)
