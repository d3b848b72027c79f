"""Random numbers drawn in the functions of a dataset match one device."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process


@pytest.fixture(scope="module")
def made() -> dict[str, tf.distribute.Strategy]:
    two = strategies.mirrored_strategy(2)
    return {"2": two, "one device": strategies.one_device_strategy()}


def numbers() -> tf.data.Dataset:
    return tf.data.Dataset.range(3)


def unseeded() -> list[float]:
    drawn = numbers().map(lambda _: keras.random.uniform(()))
    between = [float(v) for v in drawn], float(keras.random.uniform(())), [float(v) for v in drawn]
    return [*between[0], between[1], *between[2]]


def drawn_before() -> list[float]:
    first = float(keras.random.normal(()))
    drawn = numbers().map(lambda _: keras.random.normal(()))
    return [first, float(keras.random.normal(())), *(float(v) for v in drawn)]


def of_a_generator() -> list[float]:
    generator = keras.random.SeedGenerator(5)
    drawn = numbers().map(lambda _: keras.random.normal((), seed=generator))
    return [float(v) for v in drawn]


def in_a_condition() -> list[float]:
    drawn = numbers().map(
        lambda i: tf.cond(i > 0, lambda: keras.random.uniform(()), lambda: tf.constant(0.0))
    )
    return [float(v) for v in drawn]


def of_a_layer() -> list[float]:
    flip = keras.layers.RandomFlip("horizontal", seed=3)
    images = tf.data.Dataset.from_tensors(np.arange(24.0).reshape(1, 4, 6, 1)).repeat(5)
    drawn = images.map(lambda image: flip(image, training=True))
    return [float(image[0, 0, 0, 0]) for image in drawn]


@pytest.mark.parametrize("on", ["2", "one device"])
@pytest.mark.parametrize(
    "program", [unseeded, drawn_before, of_a_generator, in_a_condition, of_a_layer]
)
def test_random_numbers_match_one_device(
    made: dict[str, tf.distribute.Strategy], on: str, program: object
) -> None:
    assert callable(program)
    keras.utils.set_random_seed(11)
    expected = program()
    assert len(set(expected)) > 1
    keras.utils.set_random_seed(11)
    with made[on].scope():
        assert program() == expected


def test_a_model_trained_on_random_numbers_matches_one_device(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    def trained(strategy: tf.distribute.Strategy) -> np.ndarray:
        keras.utils.set_random_seed(2)
        with strategy.scope():
            data = tf.data.Dataset.from_tensor_slices(np.ones((10, 3), np.float32)).batch(4)
            data = data.map(lambda x: (x + keras.random.normal(tf.shape(x)), x[:, :1]))
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(data, epochs=2, verbose=0)
        return np.concatenate([np.ravel(weight) for weight in model.get_weights()])

    expected = trained(tf.distribute.get_strategy())
    np.testing.assert_allclose(trained(made["2"]), expected, rtol=1e-5)
