"""Losses and their gradients on uneven replica batches, against the same losses in NumPy.

Every model is linear, so that with the loss `sum_i c_i e_i^2` of errors `e = x w - y` the gradient
is `2 x^T (c e)`, and one step of SGD at rate 1 shows it. What differs is the `c_i`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

FEATURES, LENGTH = 3, 4


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(3)


class Batch(NamedTuple):
    """One global batch of sequences, some of whose steps do not count."""

    x: np.ndarray  # [n, LENGTH, FEATURES]; zeros where masked
    y: np.ndarray  # [n, LENGTH, 1]
    mask: np.ndarray  # [n, LENGTH]
    weight: np.ndarray  # [n, LENGTH]


def batch_of(num_rows: int, num_masked_rows: int = 0) -> Batch:
    draw = np.random.default_rng(num_rows)
    mask = draw.uniform(size=[num_rows, LENGTH]) < 0.6
    mask[:, 0] = True
    mask[:num_masked_rows] = False
    x = draw.normal(size=[num_rows, LENGTH, FEATURES]) * mask[..., None]
    y = draw.normal(size=[num_rows, LENGTH, 1])
    return Batch(x, y, mask, draw.uniform(0.5, 3.0, size=[num_rows, LENGTH]))


Coefficients = Callable[[Batch], np.ndarray]
ELEMENTS: Coefficients = lambda b: np.ones_like(b.mask) / b.mask.size  # noqa: E731
WEIGHTED: Coefficients = lambda b: b.weight * ELEMENTS(b)  # noqa: E731
VALID: Coefficients = lambda b: b.mask / b.mask.sum()  # noqa: E731

CASES = [
    # reduction, masked, weighted, c_i
    pytest.param("sum_over_batch_size", False, False, ELEMENTS, id="mean"),
    pytest.param("sum_over_batch_size", False, True, WEIGHTED, id="weighted"),
    pytest.param("sum_over_batch_size", True, False, VALID, id="masked"),
    pytest.param(
        "sum_over_batch_size",
        True,
        True,
        lambda b: b.weight * VALID(b),
        id="masked and weighted",
    ),
    pytest.param(
        "mean_with_sample_weight",
        False,
        True,
        lambda b: b.weight / b.weight.sum(),
        id="mean with weights",
    ),
    pytest.param(
        "mean_with_sample_weight",
        True,
        True,
        lambda b: b.weight * b.mask / (b.weight * b.mask).sum(),
        id="masked mean with weights",
    ),
    pytest.param("mean_with_sample_weight", False, False, ELEMENTS, id="mean without weights"),
    pytest.param("sum", False, False, lambda b: np.ones_like(b.mask) * 1.0, id="sum"),
    pytest.param("sum", True, True, lambda b: b.weight * b.mask, id="masked sum"),
]


def linear_model(strategy: tf.distribute.Strategy, reduction: str, is_masked: bool) -> Any:
    kernel = np.random.default_rng(5).normal(size=[FEATURES, 1])
    with strategy.scope():
        inputs = keras.Input([LENGTH, FEATURES])
        rows = keras.layers.Masking()(inputs) if is_masked else inputs
        initializer = keras.initializers.Constant(kernel)
        outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer=initializer)(rows)
        model = keras.Model(inputs, outputs)
        loss = keras.losses.MeanSquaredError(reduction=reduction)
        model.compile(keras.optimizers.SGD(1.0), loss)
    return model


def loss_and_gradient(batch: Batch, kernel: np.ndarray, c: np.ndarray) -> tuple[float, np.ndarray]:
    errors = (batch.x @ kernel - batch.y)[..., 0]
    gradient = 2 * np.einsum("ntf,nt->f", batch.x, c * errors)
    return float((c * errors**2).sum()), gradient[:, None]


def arguments_of(batch: Batch, is_weighted: bool) -> dict[str, Any]:
    weights = {"sample_weight": batch.weight} if is_weighted else {}
    return {"x": batch.x, "y": batch.y, "batch_size": len(batch.x), "verbose": 0, **weights}


def assert_trains_like(model: Any, batch: Batch, is_weighted: bool, c: np.ndarray) -> None:
    """Trains on one global batch; compares the loss and the change of weights."""
    kernel = model.get_weights()[0]
    loss, gradient = loss_and_gradient(batch, kernel, c)
    history = model.fit(shuffle=False, **arguments_of(batch, is_weighted)).history
    np.testing.assert_allclose(history["loss"], [loss], rtol=1e-6)  # Keras divides in float32
    np.testing.assert_allclose(model.get_weights()[0], kernel - gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("reduction", "is_masked", "is_weighted", "coefficients"), CASES)
def test_a_loss_on_uneven_replica_batches_is_that_of_the_whole_batch(
    strategy: tf.distribute.Strategy,
    reduction: str,
    is_masked: bool,
    is_weighted: bool,
    coefficients: Coefficients,
) -> None:
    batch = batch_of(7)
    model = linear_model(strategy, reduction, is_masked)
    assert_trains_like(model, batch, is_weighted, coefficients(batch))


@pytest.mark.parametrize(
    ("reduction", "is_masked", "is_weighted", "coefficients"), [CASES[i] for i in (0, 3, 4, 7)]
)
def test_a_replica_without_rows_adds_nothing(
    strategy: tf.distribute.Strategy,
    reduction: str,
    is_masked: bool,
    is_weighted: bool,
    coefficients: Coefficients,
) -> None:
    batch = batch_of(2)
    model = linear_model(strategy, reduction, is_masked)
    assert_trains_like(model, batch, is_weighted, coefficients(batch))


@pytest.mark.parametrize(
    ("reduction", "is_masked", "is_weighted", "coefficients"), [CASES[i] for i in (3, 5, 7)]
)
def test_evaluate_returns_the_loss_of_the_whole_batch(
    strategy: tf.distribute.Strategy,
    reduction: str,
    is_masked: bool,
    is_weighted: bool,
    coefficients: Coefficients,
) -> None:
    batch = batch_of(7)
    model = linear_model(strategy, reduction, is_masked)
    loss, _ = loss_and_gradient(batch, model.get_weights()[0], coefficients(batch))
    np.testing.assert_allclose(model.evaluate(**arguments_of(batch, is_weighted)), loss, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_a_replica_whose_steps_are_all_masked_adds_nothing(
    strategy: tf.distribute.Strategy, reduction: str
) -> None:
    batch = batch_of(6, num_masked_rows=2)
    model = linear_model(strategy, reduction, is_masked=True)
    c = batch.mask / batch.mask.sum()
    assert_trains_like(model, batch, False, c)


def test_a_batch_whose_steps_are_all_masked_changes_nothing(
    strategy: tf.distribute.Strategy,
) -> None:
    batch = batch_of(6, num_masked_rows=6)
    model = linear_model(strategy, "sum_over_batch_size", is_masked=True)
    assert_trains_like(model, batch, False, np.zeros_like(batch.weight))


def test_a_regularizer_counts_once_with_any_loss(strategy: tf.distribute.Strategy) -> None:
    batch = batch_of(7)
    with strategy.scope():
        inputs = keras.Input([LENGTH, FEATURES])
        layer = keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer="ones",
            kernel_regularizer=keras.regularizers.L2(0.5),
        )
        model = keras.Model(inputs, layer(keras.layers.Masking()(inputs)))
        model.compile(keras.optimizers.SGD(1.0), "mse")
    kernel = np.ones([FEATURES, 1])
    loss, gradient = loss_and_gradient(batch, kernel, VALID(batch))
    history = model.fit(batch.x, batch.y, batch_size=7, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], [loss + 0.5 * FEATURES], rtol=1e-6)
    np.testing.assert_allclose(model.get_weights()[0], kernel - gradient - kernel, atol=1e-12)


def three_outputs(strategy: tf.distribute.Strategy) -> tuple[Any, dict[str, float]]:
    """A model with a loss of each kind, and the weight of each loss."""
    weights = {"masked": 1.0, "plain": 2.0, "summed": 0.1}
    with strategy.scope():
        inputs = keras.Input([LENGTH, FEATURES])
        masked = keras.layers.Masking()(inputs)
        outputs = {
            name: keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name=name)(
                masked if name == "masked" else inputs
            )
            for name in weights
        }
        model = keras.Model(inputs, outputs)
        losses = {name: keras.losses.MeanSquaredError() for name in weights}
        losses["summed"] = keras.losses.MeanSquaredError(reduction="sum")
        model.compile(keras.optimizers.SGD(1.0), losses, loss_weights=weights)
    return model, weights


def coefficients_of_three(batch: Batch) -> dict[str, np.ndarray]:
    return {"masked": VALID(batch), "plain": ELEMENTS(batch), "summed": np.ones(batch.mask.shape)}


def test_each_output_keeps_its_own_divisor(strategy: tf.distribute.Strategy) -> None:
    batch, kernel = batch_of(7), np.ones([FEATURES, 1])
    model, weights = three_outputs(strategy)
    targets = dict.fromkeys(weights, batch.y)
    history = model.fit(batch.x, targets, batch_size=7, shuffle=False, verbose=0).history
    total = 0.0
    for name, c in coefficients_of_three(batch).items():
        loss, gradient = loss_and_gradient(batch, kernel, c * weights[name])
        found = model.get_layer(name).get_weights()[0]
        np.testing.assert_allclose(found, kernel - gradient, rtol=1e-12, atol=1e-12)
        total += loss
    np.testing.assert_allclose(history["loss"], [total], rtol=1e-6)


def test_the_log_of_each_output_is_the_loss_of_the_whole_batch(
    strategy: tf.distribute.Strategy,
) -> None:
    batch = batch_of(7)
    model, weights = three_outputs(strategy)
    targets = dict.fromkeys(weights, batch.y)
    history = model.fit(batch.x, targets, batch_size=7, shuffle=False, verbose=0).history
    for name, c in coefficients_of_three(batch).items():
        loss, _ = loss_and_gradient(batch, np.ones([FEATURES, 1]), c)
        np.testing.assert_allclose(history[f"{name}_loss"], [loss], rtol=1e-6)


class OwnStep(keras.Model):
    """A model with a custom training step that is not written for replicas."""

    def __init__(self, kernel: np.ndarray) -> None:
        super().__init__()
        initializer = keras.initializers.Constant(kernel)
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer=initializer)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"own": loss}


def test_the_loss_of_a_custom_step_counts_once(strategy: tf.distribute.Strategy) -> None:
    batch, kernel = batch_of(7), np.ones([FEATURES, 1])
    with strategy.scope():
        model = OwnStep(kernel)
        model.compile(keras.optimizers.SGD(1.0))
    model.fit(batch.x, batch.y, batch_size=7, shuffle=False, verbose=0)
    _, gradient = loss_and_gradient(batch, kernel, ELEMENTS(batch))
    np.testing.assert_allclose(model.get_weights()[0], kernel - gradient, rtol=1e-12, atol=1e-12)
