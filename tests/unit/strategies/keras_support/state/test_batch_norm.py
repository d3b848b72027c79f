"""BatchNormalization: synchronized matches one device, plain has one set of moving statistics.

Oracles: stock Keras on one device, trained before any patch is installed, and NumPy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.collectives import GraphWatch
from tests.unit.strategies.keras_support.state.batch_norm_models import (
    MOMENTUM,
    LooksAgain,
    NoOptimizer,
    Normalization,
    OneOptimizer,
    TwoOptimizers,
)

pytestmark = pytest.mark.own_process

HAS_RENORM = "renorm" in inspect.signature(Normalization.__init__).parameters


class Training(NamedTuple):
    """A model and its data, in batches that replicas do not divide."""

    layers: Callable[[Callable[..., Any]], list[Any]]
    x: np.ndarray
    batch_size: int

    @property
    def y(self) -> np.ndarray:
        return np.random.default_rng(1).normal(size=[len(self.x), *self.x.shape[1:-1], 1])


def rows(*shape: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, size=shape)


def with_masked_steps(x: np.ndarray) -> np.ndarray:
    mask = np.random.default_rng(2).uniform(size=x.shape[:2]) < 0.6
    mask[:, 0] = True
    mask[:3] = False  # the first replica's whole batch
    return x * mask[..., None]


def two_layers(normalization: Callable[..., Any]) -> list[Any]:
    dense = keras.layers.Dense
    return [dense(5), normalization(), keras.layers.ReLU(), dense(3), normalization(), dense(1)]


def one_layer(**arguments: Any) -> Callable[[Callable[..., Any]], list[Any]]:
    return lambda normalization: [normalization(**arguments), keras.layers.Dense(1)]


TRAININGS = {
    # batches of 7, 7, 7, 1: two of three replicas have nothing to do in the last
    "two layers": Training(two_layers, rows(22, 4), 7),
    "axis 1": Training(one_layer(axis=1), rows(10, 3, 5, mean=2.0), 4),
    "masked": Training(
        lambda normalization: [keras.layers.Masking(), *one_layer()(normalization)],
        with_masked_steps(rows(11, 4, 3, mean=1.0)),
        5,
    ),
    "large means": Training(one_layer(), rows(22, 4, mean=1e5), 7),
}
if HAS_RENORM:
    TRAININGS["renorm"] = Training(one_layer(renorm=True), rows(22, 4, mean=1.0), 7)


def trained(
    training: Training, strategy: tf.distribute.Strategy, is_synchronized: bool
) -> dict[str, np.ndarray]:
    """All results of a whole run."""
    normalization = functools.partial(
        Normalization, momentum=MOMENTUM, synchronized=is_synchronized
    )
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layers = training.layers(normalization)
        model = keras.Sequential([keras.Input(training.x.shape[1:]), *layers])
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    history = model.fit(
        training.x,
        training.y,
        batch_size=training.batch_size,
        epochs=2,
        shuffle=False,
        verbose=0,
    ).history
    found = {f"{i} {v.path}": v.numpy() for i, v in enumerate(model.weights)}
    found |= {name: np.array(values) for name, values in history.items()}
    return found


@pytest.fixture(scope="module")
def one_device() -> dict[str, dict[str, np.ndarray]]:
    """Results of stock Keras, before any of our strategies is built."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
    assert not hasattr(Normalization._moments, "__wrapped__")
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    stock = tf.distribute.get_strategy()
    # Not synchronized: on one device, too, that would be E[x^2] - E[x]^2.
    return {name: trained(training, stock, False) for name, training in TRAININGS.items()}


@pytest.fixture(scope="module")
def strategy_of(one_device: object) -> Callable[[int], tf.distribute.Strategy]:
    strategies.mirrored_strategy(3)  # its collective keys are those of a plain strategy
    built = {num: strategies.mirrored_strategy(num) for num in (2, 3)}
    return lambda num_replicas: built[num_replicas]


@pytest.fixture(scope="module")
def two(strategy_of: Callable[[int], tf.distribute.Strategy]) -> tf.distribute.Strategy:
    return strategy_of(2)


def copies(variable: Any) -> list[list[float]]:
    """A variable's value on each replica."""
    return [np.asarray(copy).tolist() for copy in variable._value.values]


def statistics_of(layer: Any) -> list[list[list[float]]]:
    return [copies(layer.moving_mean), copies(layer.moving_variance)]


@pytest.mark.parametrize("num_replicas", [pytest.param(2, marks=pytest.mark.thorough), 3])
@pytest.mark.parametrize("name", TRAININGS)
def test_synchronized_matches_one_device(
    one_device: dict[str, dict[str, np.ndarray]],
    strategy_of: Callable[[int], tf.distribute.Strategy],
    name: str,
    num_replicas: int,
) -> None:
    found = trained(TRAININGS[name], strategy_of(num_replicas), True)
    assert len(found) == len(one_device[name])
    for wanted, values in zip(one_device[name].items(), found.values(), strict=True):
        np.testing.assert_allclose(values, wanted[1], rtol=1e-9, atol=1e-9, err_msg=wanted[0])


def variance_in_float32(strategy: tf.distribute.Strategy, x: np.ndarray) -> np.ndarray:
    """The variance of `x` in one step of a synchronized layer."""
    with strategy.scope():
        layer = Normalization(synchronized=True, momentum=0.0, dtype="float32")
        model = keras.Sequential([keras.Input(x.shape[1:], dtype="float32"), layer])
        model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x, np.zeros_like(x), batch_size=len(x), verbose=0)
    variance: np.ndarray = np.asarray(layer.moving_variance.numpy())
    return variance


def test_synchronized_variance_does_not_cancel_as_in_stock_keras(
    two: tf.distribute.Strategy,
) -> None:
    means = np.array([1e3, 1e4, 1e5, 1e6])
    x = (rows(64, 4) + means).astype(np.float32)
    exact = x.astype(np.float64).var(axis=0)
    stock = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    error = np.abs(variance_in_float32(two, x) - exact)
    stock_error = np.abs(variance_in_float32(stock, x) - exact)
    # Examples are exact to one part in 2^23 of their mean; their deviation is 1.
    assert (error < means * 2.0**-23).all(), error
    assert (stock_error > 100 * error).all(), stock_error


@pytest.mark.parametrize(
    ("is_synchronized", "gathers", "reductions"),
    [
        pytest.param(False, 0, 1, id="plain: the gradients' own"),
        pytest.param(True, 0, 1 + 2 * 2, id="synchronized: one more each way and layer"),
    ],
)
def test_collectives_of_a_training_step(
    two: tf.distribute.Strategy, is_synchronized: bool, gathers: int, reductions: int
) -> None:
    with two.scope():
        watch = GraphWatch()
        layers = [
            layer
            for _ in range(2)
            for layer in (keras.layers.Dense(3), Normalization(synchronized=is_synchronized))
        ]
        model = keras.Sequential([keras.Input((4,)), watch, *layers])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(rows(4, 4), rows(4, 3), batch_size=4, verbose=0)
    each = ["CollectiveGatherV2"] * gathers + ["CollectiveReduceV2"] * reductions
    assert sorted(watch.step_collectives) == sorted(each * 2)


def batch_statistics(batch: np.ndarray, num_replicas: int) -> np.ndarray:
    """Mean and variance of replica batches, weighted by examples; an empty one does not count."""
    n = len(batch)
    batches = [
        batch[r * n // num_replicas : (r + 1) * n // num_replicas] for r in range(num_replicas)
    ]
    weighted = [
        len(batch) / n * np.stack([batch.mean(axis=0), batch.var(axis=0)])
        for batch in batches
        if len(batch)
    ]
    return np.asarray(sum(weighted))


def averaged(x: np.ndarray, batch_size: int, num_replicas: int, calls: int) -> np.ndarray:
    """Moving mean and variance after one epoch, with this number of calls per step."""
    moving = np.stack([np.zeros(x.shape[1]), np.ones(x.shape[1])])
    for start in range(0, len(x), batch_size):
        found = batch_statistics(x[start : start + batch_size], num_replicas)
        for _ in range(calls):
            moving = MOMENTUM * moving + (1 - MOMENTUM) * found
    return moving


def fitted(
    strategy: tf.distribute.Strategy, kind: type[OneOptimizer], x: np.ndarray, batch_size: int
) -> OneOptimizer:
    with strategy.scope():
        model = kind()
        model.compile() if kind is TwoOptimizers else model.compile("sgd", "mse")
        model.build_all()
    y = rows(len(x), 1)
    model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize(
    ("kind", "num_replicas", "num_examples", "batch_size"),
    [
        # batches of 5, 5, 1: in the last, all replicas but one have nothing to do
        pytest.param(OneOptimizer, 2, 11, 5, marks=pytest.mark.thorough),
        (OneOptimizer, 3, 11, 5),
        (OneOptimizer, 2, 1, 1),
        (TwoOptimizers, 3, 11, 5),
        (NoOptimizer, 2, 11, 5),
        pytest.param(
            LooksAgain,
            2,
            11,
            5,
            id="called in training mode after the optimizer",
        ),
    ],
)
def test_plain_moving_statistics_are_the_mean_over_examples_on_all_replicas(
    strategy_of: Callable[[int], tf.distribute.Strategy],
    kind: type[OneOptimizer],
    num_replicas: int,
    num_examples: int,
    batch_size: int,
) -> None:
    x = rows(num_examples, 3, mean=5.0)
    model = fitted(strategy_of(num_replicas), kind, x, batch_size)
    wanted = averaged(x, batch_size, num_replicas, kind.calls)
    for variable, values in zip(
        (model.normalization.moving_mean, model.normalization.moving_variance), wanted, strict=True
    ):
        assert copies(variable) == [copies(variable)[0]] * num_replicas
        np.testing.assert_allclose(copies(variable)[0], values, rtol=1e-12)
    for variable in model.variables:
        assert np.isfinite(variable.numpy()).all()


def test_plain_moving_statistics_are_the_same_in_the_file_and_after_loading(
    two: tf.distribute.Strategy, tmp_path: Path
) -> None:
    with two.scope():
        model = keras.Sequential([keras.Input((3,)), Normalization(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    model.fit(rows(11, 3, mean=5.0), rows(11, 1), batch_size=5, verbose=0)
    found = statistics_of(model.layers[0])
    assert found == [[one, one] for one, _ in found]
    model.save(tmp_path / "model.keras")
    elsewhere = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    assert elsewhere.moving_mean.numpy().tolist() == found[0][0]
    assert elsewhere.moving_variance.numpy().tolist() == found[1][0]
    with two.scope():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert statistics_of(loaded.layers[0]) == found
    loaded.fit(rows(3, 3), rows(3, 1), verbose=0)
    again = statistics_of(loaded.layers[0])
    assert again == [[one, one] for one, _ in again] != found


class Inferring(keras.layers.Layer):
    """Calls a layer as for inference, also in training."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        self.layer.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.layer(inputs, training=False)


@pytest.mark.parametrize("num_examples", [7, 1])
def test_statistics_that_do_not_train_keep_their_bits(
    two: tf.distribute.Strategy, num_examples: int
) -> None:
    # Not a sum of few powers of two, so that `before + (value - before)` would differ.
    first = keras.initializers.RandomUniform(0.1, 3.0, seed=1)
    arguments = {"moving_mean_initializer": first, "moving_variance_initializer": first}
    with two.scope():
        frozen, inferring = Normalization(**arguments), Normalization(**arguments)
        training = Normalization(**arguments)
        frozen.trainable = False
        # Last: in Keras 3.16 the layers after one that infers infer too, also on one device.
        layers = [frozen, training, Inferring(inferring)]
        model = keras.Sequential([keras.Input((3,)), *layers])
        model.compile("sgd", "mse")
    kept = [statistics_of(layer) for layer in (frozen, inferring)]
    before = statistics_of(training)
    model.fit(rows(num_examples, 3), rows(num_examples, 3), epochs=2, batch_size=3, verbose=0)
    assert [statistics_of(layer) for layer in (frozen, inferring)] == kept
    assert statistics_of(training) != before
    model.evaluate(rows(num_examples, 3), rows(num_examples, 3), verbose=0)
    assert [statistics_of(layer) for layer in (frozen, inferring)] == kept


class Penalty(keras.layers.Layer):
    """Adds a mean over the rows to the loss."""

    def call(self, inputs: Any) -> Any:
        self.add_loss(keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def test_penalties_on_both_sides_of_a_collective_count_for_their_replica() -> None:
    """While one replica waits for the moments, the next one runs the same layers."""
    found = []
    for strategy in (strategies.mirrored_strategy(2), tf.distribute.get_strategy()):
        keras.utils.set_random_seed(4)
        is_replicated = strategy.num_replicas_in_sync > 1
        with strategy.scope():
            normalization = keras.layers.BatchNormalization(synchronized=is_replicated)
            layers = [keras.layers.Dense(4), Penalty(), normalization, Penalty()]
            model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
            model.compile(keras.optimizers.SGD(0.1), "mse")
        history = model.fit(
            rows(14, 3), rows(14, 1), batch_size=4, epochs=2, shuffle=False, verbose=0
        )
        found.append([*model.get_weights(), np.array(history.history["loss"])])
    for own, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-12)
