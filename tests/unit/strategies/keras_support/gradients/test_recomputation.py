"""Recomputed layers train exactly as layers that keep their activations.

Oracles: stock Keras on one device without recomputation; where layers draw random numbers, the same
strategy without recomputation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfscale
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    assert_like_one_device,
    found,
)
from tests.unit.strategies.keras_support.gradients.recomputed_models import MODELS

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

BLOCKS = r"block_\d"


def trained(name: str, strategy: Any, layers: Any, rate: float = 0.0, epochs: int = 15) -> Found:
    """Thirty steps of a model, two an epoch; recomputes `layers` under a strategy of ours."""
    with strategy.scope():
        model, x, y = MODELS[name](rate)
        if layers is not None:
            tfscale.recompute(model, layers)
    history = model.fit(x, y, batch_size=6, epochs=epochs, shuffle=False, verbose=0)
    return found(model, history)


@pytest.mark.parametrize(
    ("name", "replicas"),
    [
        ("small", 2),
        ("attended", 2),
        *(
            pytest.param(name, replicas, marks=pytest.mark.thorough)
            for name in ("transformer", "convolutions")
            for replicas in (1, 2, 3)
        ),
    ],
)
def test_thirty_steps_match_one_device(
    name: str, replicas: int, by_replicas: dict[int, tf.distribute.Strategy]
) -> None:
    ours = by_replicas[replicas]
    assert_like_one_device(
        lambda strategy: trained(name, strategy, BLOCKS if strategy is ours else None), ours
    )


@pytest.mark.parametrize(
    ("name", "replicas"),
    [
        ("masked", 2),
        pytest.param("transformer", 1, marks=pytest.mark.thorough),
        pytest.param("transformer", 2, marks=pytest.mark.thorough),
        pytest.param("convolutions", 2, marks=pytest.mark.thorough),
    ],
)
def test_the_second_pass_draws_the_same_numbers(
    name: str, replicas: int, by_replicas: dict[int, tf.distribute.Strategy]
) -> None:
    results = []
    for layers in ((), BLOCKS):
        keras.utils.set_random_seed(5)
        results.append(trained(name, by_replicas[replicas], layers, rate=0.3, epochs=5))
    for key in results[0]:
        np.testing.assert_array_equal(results[1][key], results[0][key], err_msg=key)


@pytest.mark.parametrize("fits", [1, pytest.param(4, marks=pytest.mark.thorough)])
def test_updates_wait_until_the_second_pass_has_read_the_weights(
    fits: int, by_replicas: dict[int, tf.distribute.Strategy]
) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64, 16)), random.normal(size=(64, 1))

    def trained(name: str) -> list[Any]:
        keras.utils.set_random_seed(1)
        layers = keras.layers
        blocks = [
            keras.Sequential([layers.Dense(64, "gelu"), layers.Dense(16)], name=f"block_{i}")
            for i in range(4)
        ]
        model = keras.Sequential([keras.Input([16]), *blocks, layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        if name:
            tfscale.recompute(model, name)
        model.fit(x, y, batch_size=16, epochs=4, shuffle=False, verbose=0)
        return [variable.numpy() for variable in model.weights]

    kept = trained("")  # stock Keras
    for _ in range(fits):  # without the order about two of three fits had other weights
        with by_replicas[1].scope():
            recomputed = trained(BLOCKS)
        for one, other in zip(recomputed, kept, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12, rtol=0)


@pytest.mark.thorough
def test_the_second_pass_computes_in_the_dtype_of_the_first(
    by_replicas: dict[int, tf.distribute.Strategy],
) -> None:
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("mixed_bfloat16")
    results = []
    try:
        for layers in ((), BLOCKS):
            keras.utils.set_random_seed(5)
            results.append(trained("transformer", by_replicas[2], layers, rate=0.3, epochs=3))
    finally:  # the other tests of this module are in float64
        keras.config.set_dtype_policy("float64")
        keras.config.set_floatx("float64")
    for key in results[0]:
        np.testing.assert_array_equal(results[1][key], results[0][key], err_msg=key)


@pytest.mark.thorough
def test_keras_own_scope_is_exact_too(by_replicas: dict[int, tf.distribute.Strategy]) -> None:
    def program(strategy: Any) -> Found:
        with keras.RematScope("full" if strategy is by_replicas[2] else None):
            return trained("transformer", strategy, None)

    assert_like_one_device(program, by_replicas[2])


def test_a_gradient_penalty_differentiates_a_recomputed_layer_twice(
    by_replicas: dict[int, tf.distribute.Strategy],
) -> None:
    class Penalized(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    predicted = self(x, training=True)
                    total = tf.reduce_sum(predicted)
                slopes = inner.gradient(total, x)
                loss = self.compute_loss(y=y, y_pred=predicted)
                loss += tf.reduce_mean(tf.square(slopes))
            weights = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}

    def program(strategy: Any) -> Found:
        with strategy.scope():
            inputs = keras.Input([2])
            hidden = keras.layers.Dense(4, "tanh", name="block_0")(inputs)
            model = Penalized(inputs, keras.layers.Dense(1)(hidden))
            model.compile(keras.optimizers.SGD(0.1), "mse")
            if strategy is by_replicas[2]:
                tfscale.recompute(model, BLOCKS)
        x = np.linspace(-1.0, 1.0, 16).reshape(8, 2)
        model.fit(x, x[:, :1], batch_size=4, epochs=2, shuffle=False, verbose=0)
        return found(model)

    assert_like_one_device(program, by_replicas[2])


class Unrepeatable(keras.layers.Layer):
    def __init__(self, do: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.do = do

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=())
        self.generator = keras.random.SeedGenerator(3)
        self.native = tf.Variable(0.0, trainable=False)

    def call(self, x: Any) -> Any:
        return self.do(self, x) * self.scale


def draws_with_hidden_state(layer: Any, x: Any) -> Any:
    return x + tf.random.normal(tf.shape(x), dtype=x.dtype)


def assigns_a_native_variable(layer: Any, x: Any) -> Any:
    layer.native.assign(1.0)
    return x


def draws_in_a_condition(layer: Any, x: Any) -> Any:
    def drawn() -> Any:
        return x + keras.random.normal(x.shape[1:], dtype="float64", seed=layer.generator)

    return tf.cond(tf.reduce_sum(x) > 0, drawn, lambda: x)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        pytest.param(draws_with_hidden_state, "can be drawn again", id="tf.random"),
        pytest.param(assigns_a_native_variable, "in variables of Keras", id="tf.Variable"),
        pytest.param(draws_in_a_condition, "cannot be repeated", id="condition"),
    ],
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_what_cannot_be_repeated_is_refused(
    do: Any, message: str, replicas: int, by_replicas: dict[int, tf.distribute.Strategy]
) -> None:
    with by_replicas[replicas].scope():
        model = keras.Sequential([keras.Input([2]), keras.layers.Dense(2), Unrepeatable(do)])
        model.compile("sgd", "mse")
        tfscale.recompute(model, Unrepeatable)
    with pytest.raises(ValueError, match=message):
        model.fit(np.ones([4, 2]), np.ones([4, 2]), batch_size=4, verbose=0)


def test_weights_updated_before_their_gradient_are_refused(
    by_replicas: dict[int, tf.distribute.Strategy],
) -> None:
    class UpdatesFirst(keras.Sequential):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            weights = self.trainable_variables
            with tf.GradientTape(persistent=True) as tape:
                first = self.compute_loss(y=y, y_pred=self(x, training=True))
                second = self.compute_loss(y=y, y_pred=self(2.0 * x, training=True))
            self.optimizer.apply(tape.gradient(first, weights), weights)
            self.optimizer.apply(tape.gradient(second, weights), weights)
            return {"loss": first}

    with by_replicas[2].scope():
        parts = [keras.Input([2]), keras.layers.Dense(2, "tanh"), keras.layers.Dense(1)]
        model = UpdatesFirst(parts)
        model.compile("sgd", "mse")
        tfscale.recompute(model, keras.layers.Dense)
    with pytest.raises(ValueError, match="must not be updated before the gradients"):
        model.fit(np.ones([4, 2]), np.ones([4, 1]), batch_size=4, verbose=0)


def test_a_tensor_from_outside_is_refused(by_replicas: dict[int, tf.distribute.Strategy]) -> None:
    class Closing(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(shape=())

        def call(self, x: Any) -> Any:
            outside = 2.0 * x * self.scale
            return keras.remat(lambda given: given * outside)(x)

    with by_replicas[2].scope():
        model = keras.Sequential([keras.Input([2]), Closing()])
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must get tensors as arguments"):
        model.fit(np.ones([4, 2]), np.ones([4, 2]), batch_size=4, verbose=0)
