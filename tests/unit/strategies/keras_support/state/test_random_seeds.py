"""Random layers draw different numbers on each replica, and the same ones from the same seed.

Oracle: the numbers of the same layer and seed outside any strategy, in stock Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process

SEED = 7
ROWS, COLUMNS = 16, 400
IMAGES = (ROWS, 20, 20, 1)

Layers = dict[str, tuple[Callable[[], Any], tuple[int, ...]]]
LAYERS: Layers = {
    "Dropout": (lambda: keras.layers.Dropout(0.3, seed=SEED), (ROWS, COLUMNS)),
    "GaussianNoise": (lambda: keras.layers.GaussianNoise(1.0, seed=SEED), (ROWS, COLUMNS)),
    "RandomFlip": (lambda: keras.layers.RandomFlip("horizontal", seed=SEED), IMAGES),
}


class Tape(keras.layers.Layer):
    """Returns its input and records it on each replica, step after step."""

    def build(self, input_shape: Any) -> None:
        self.written: list[list[np.ndarray]] = [[], []]

    def call(self, inputs: Any) -> Any:
        replica = tf.distribute.get_replica_context()
        if replica is not None and isinstance(inputs, tf.Tensor):
            tf.numpy_function(self._write, [replica.replica_id_in_sync_group, inputs], [])
        return inputs

    def _write(self, replica: Any, values: np.ndarray) -> None:
        self.written[int(replica)].append(values.copy())


def inputs_of(name: str) -> np.ndarray:
    shape = LAYERS[name][1]
    if name == "RandomFlip":  # a row that is not its own mirror image, the same in every example
        return np.broadcast_to(np.arange(20.0, dtype=np.float32)[:, None], shape)
    return np.ones(shape, np.float32)


@pytest.fixture(scope="module")
def one_device() -> dict[str, list[np.ndarray]]:
    """Two draws of each layer for one replica batch, in stock Keras."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    assert not hasattr(keras.random.SeedGenerator.next, "__wrapped__")
    found = {}
    for name, (layer, _) in LAYERS.items():
        made, replica_batch = layer(), inputs_of(name)[: ROWS // 2]
        found[name] = [np.asarray(made(replica_batch, training=True)) for _ in range(2)]
    return found


@pytest.fixture(scope="module")
def two(one_device: object) -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


def drawn(
    strategy: tf.distribute.Strategy, name: str, **arguments: Any
) -> tuple[list[list[np.ndarray]], Any]:
    """The numbers of each replica in two steps of `fit`, and the layer."""
    with strategy.scope():
        layer, tape = LAYERS[name][0](), Tape()
        inputs = keras.Input(LAYERS[name][1][1:])
        model = keras.Model(inputs, tape(layer(inputs)))
        model.compile("sgd", "mse", **arguments)
    x = inputs_of(name)
    model.fit(x, x, epochs=2, batch_size=ROWS, verbose=0)
    return tape.written, layer


def state_copies(layer: Any) -> list[Any]:
    generator = getattr(layer, "seed_generator", None) or layer.generator
    return [copy.numpy().tolist() for copy in generator.state._value.values]


@pytest.fixture(scope="module", params=LAYERS)
def both(request: pytest.FixtureRequest, two: Any) -> tuple[str, Any, Any]:
    written, layer = drawn(two, request.param)
    return request.param, written, layer


def test_every_draw_of_every_replica_differs(both: tuple[str, Any, Any]) -> None:
    _, written, _ = both
    draws = [draw.tobytes() for replica in written for draw in replica]
    assert len(draws) == 4
    assert len(set(draws)) == 4


def test_the_first_replica_draws_as_one_device_for_its_examples(
    one_device: dict[str, list[np.ndarray]], both: tuple[str, Any, Any]
) -> None:
    name, written, _ = both
    np.testing.assert_array_equal(written[0], one_device[name])


def test_replicas_count_their_draws_equally(both: tuple[str, Any, Any]) -> None:
    _, _, layer = both
    assert state_copies(layer) == [[SEED, 2]] * 2


def test_the_same_seed_draws_the_same_again_on_every_replica(
    two: tf.distribute.Strategy, both: tuple[str, Any, Any]
) -> None:
    name, written, _ = both
    again, _ = drawn(two, name)
    np.testing.assert_array_equal(again, written)


def test_each_step_of_an_execution_draws_other_numbers(two: tf.distribute.Strategy) -> None:
    with two.scope():
        layer, tape = keras.layers.Dropout(0.5, seed=SEED), Tape()
        model = keras.Sequential([keras.Input((COLUMNS,)), layer, tape])
        model.compile("sgd", "mse", steps_per_execution=3)
    x = np.ones([6 * 3, COLUMNS])
    model.fit(x, x, batch_size=6, verbose=0)
    draws = [draw.tobytes() for replica in tape.written for draw in replica]
    assert len(draws) == len(set(draws)) == 6
    assert state_copies(layer) == [[SEED, 3]] * 2


def test_dropout_keeps_the_right_fraction_and_replicas_are_independent(
    two: tf.distribute.Strategy,
) -> None:
    with two.scope():
        tape = Tape()
        layers = [keras.layers.Dropout(0.3, seed=SEED), tape]
        model = keras.Sequential([keras.Input((5000,)), *layers])
        model.compile("sgd", "mse")
    x = np.ones([20, 5000])
    model.fit(x, x, batch_size=20, verbose=0)
    first, second = (replica[0] > 0 for replica in tape.written)
    # Standard deviations of the mean of 50 000 draws, of probability 0.7 and 0.49: 0.002.
    assert abs(first.mean() - 0.7) < 0.01
    assert abs(second.mean() - 0.7) < 0.01
    assert abs((first & second).mean() - 0.49) < 0.01
    np.testing.assert_allclose(np.unique(tape.written), [0, 1 / 0.7], rtol=1e-6)


def test_a_run_with_dropout_is_the_same_bit_for_bit_from_the_same_seed(
    two: tf.distribute.Strategy,
) -> None:
    def run(seed: int) -> list[bytes]:
        keras.utils.set_random_seed(seed)
        with two.scope():
            layers = [keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
            model = keras.Sequential([keras.Input((4,)), *layers])
            model.compile("adam", "mse")
        draw = np.random.default_rng(0)
        model.fit(draw.normal(size=[22, 4]), draw.normal(size=[22, 1]), batch_size=7, verbose=0)
        return [np.asarray(weight).tobytes() for weight in model.get_weights()]

    first = run(1)
    assert run(1) == first
    assert run(2) != first


def test_outside_fit_every_replica_draws_as_stock_keras(
    two: tf.distribute.Strategy, one_device: dict[str, list[np.ndarray]]
) -> None:
    replica_batch = inputs_of("Dropout")[: ROWS // 2]
    with two.scope():
        looped, called = LAYERS["Dropout"][0](), LAYERS["Dropout"][0]()
    drawn_in_loop = two.run(lambda: looped(replica_batch, training=True))
    for copy in two.experimental_local_results(drawn_in_loop):
        np.testing.assert_array_equal(copy, one_device["Dropout"][0])
    np.testing.assert_array_equal(called(replica_batch, training=True), one_device["Dropout"][0])
