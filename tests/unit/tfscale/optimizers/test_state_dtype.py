"""Optimizer slots in bfloat16.

Oracles: the two neighbours and their distances for rounding, closed forms of the moments, and the
same optimizer with slots in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.programs import completed, forked
from tfscale.optimizers import OPTIMIZERS, optimizer_by_name, with_state_dtype
from tfscale.optimizers.state_dtype import rounded_stochastically

DRAW = np.random.default_rng(2)
SEED = tf.constant([3, 4], tf.int64)


def numbers(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(tf.cast(values, tf.float64))


def slots_named(optimizer: Any, name: str) -> list[Any]:
    return [each for each in optimizer.variables if name in each.name]


@pytest.mark.parametrize("value", [1.001, -1.001, 3e-30, 12345.678])
def test_a_value_is_rounded_to_its_neighbours_and_keeps_its_mean(value: float) -> None:
    count = 200_000
    rounded = numbers(rounded_stochastically(tf.fill([count], tf.constant(value)), SEED))
    single = float(np.float32(value))
    step = 2.0 ** (np.floor(np.log2(abs(single))) - 7)
    below = np.floor(single / step) * step
    assert set(rounded) == {below, below + step}
    share = (single - below) / step
    deviation = np.sqrt(share * (1 - share) / count) * step
    assert abs(rounded.mean() - single) < 4 * deviation


def test_what_bfloat16_has_stays_as_it_is() -> None:
    values = DRAW.normal(size=1000).astype(ml_dtypes.bfloat16).astype(np.float32)
    values[:6] = [0.0, -0.0, np.inf, -np.inf, 3.3895314e38, 2.0**-126]
    np.testing.assert_array_equal(numbers(rounded_stochastically(values, SEED)), values)
    assert np.isnan(numbers(rounded_stochastically(tf.constant([np.nan]), SEED))[0])


def second_moment_after(steps: int, rounding: str) -> np.ndarray[Any, Any]:
    """The second moment of Adam, 1 at first, after steps with gradients of zero."""
    optimizer = with_state_dtype(keras.optimizers.Adam(1e-3), rounding=rounding)
    weights = keras.Variable(np.zeros(4096, np.float32))
    optimizer.build([weights])
    (moment,) = slots_named(optimizer, "velocity")
    moment.assign(np.ones(4096))
    step = tf.function(lambda: optimizer.apply([tf.zeros(4096)], [weights]))
    for _ in range(steps):
        step()
    return numbers(moment.value)


def test_the_second_moment_falls_as_in_exact_arithmetic() -> None:
    found = second_moment_after(693, "stochastic")
    assert found.mean() == pytest.approx(0.999**693, rel=0.005)


def test_rounded_to_the_nearest_the_second_moment_never_falls() -> None:
    """0.999 is nearer to 1 than to its neighbour below, 1 - 2**-8."""
    np.testing.assert_array_equal(second_moment_after(50, "nearest"), 1.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_follows_the_one_with_slots_in_float32(name: str) -> None:
    momentum = 0.9 if name == "sgd" else None
    trained = []
    for is_stored in (False, True):
        optimizer = optimizer_by_name(name, 0.01, momentum=momentum)
        if is_stored:
            with_state_dtype(optimizer)
        draw = np.random.default_rng(0)
        kernel = keras.Variable(draw.normal(size=[40, 60]).astype(np.float32), name="kernel")
        optimizer.build([kernel])
        for _ in range(20):
            gradient = tf.constant(0.3 + draw.normal(size=[40, 60]), tf.float32)
            optimizer.apply([gradient], [kernel])
        trained.append(numbers(kernel.value))
    start = np.random.default_rng(0).normal(size=[40, 60]).astype(np.float32)
    moved = np.linalg.norm(trained[0] - start)
    # Lion takes the sign of a moment, which rounding changes where the moment is near zero.
    largest = 0.15 if name == "lion" else 0.05
    assert np.linalg.norm(trained[1] - trained[0]) < largest * moved


def test_adam_keeps_two_slots_of_two_bytes() -> None:
    optimizer = with_state_dtype(keras.optimizers.Adam(1e-3, use_ema=True))
    optimizer.build([keras.Variable(np.zeros([30, 10], np.float32))])
    sizes = {name: slots_named(optimizer, name)[0].dtype for name in ("momentum", "velocity")}
    assert sizes == {"momentum": "bfloat16", "velocity": "bfloat16"}
    assert slots_named(optimizer, "average")[0].dtype == "float32"


def test_rows_of_a_table_that_a_batch_does_not_use_keep_their_slots() -> None:
    optimizer = with_state_dtype(keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.3))
    table = keras.Variable(np.ones([5, 2], np.float32))
    optimizer.build([table])
    (accumulator,) = slots_named(optimizer, "accumulator")
    before = numbers(accumulator.value)
    rows = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 3]), tf.constant([5, 2]))
    tf.function(lambda: optimizer.apply([rows], [table]))()
    changed = np.any(numbers(accumulator.value) != before, axis=1)
    assert changed.tolist() == [False, True, False, True, False]


def adam_after(steps: int, seed: int) -> np.ndarray[Any, Any]:
    optimizer = with_state_dtype(keras.optimizers.Adam(0.1), seed=seed)
    weights = keras.Variable(np.zeros(64, np.float32))
    for step in range(steps):
        optimizer.apply([tf.range(64.0) + step / 3], [weights])
    return numbers(weights.value)


def test_the_seed_decides_the_rounding() -> None:
    np.testing.assert_array_equal(adam_after(3, seed=1), adam_after(3, seed=1))
    assert np.any(adam_after(3, seed=1) != adam_after(3, seed=2))


PLAIN = """
import sys, numpy as np, keras
model = keras.saving.load_model(sys.argv[1])
slots = [each for each in model.optimizer.variables if "velocity" in each.name]
assert [each.dtype for each in slots] == ["float32", "float32"], slots
assert all(float(keras.ops.max(each)) > 0 for each in slots)
model.fit(np.ones([4, 2]), np.ones([4, 1]), verbose=0)
print("tfscale" in sys.modules)
"""


def test_a_file_loads_in_plain_keras_with_slots_in_float32(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(with_state_dtype(keras.optimizers.Adam(0.1)), "mse")
    model.fit(np.ones([4, 2]), np.ones([4, 1]), verbose=0)
    model.save(tmp_path / "model.keras")
    done = completed(*forked("-c", PLAIN, str(tmp_path / "model.keras")), timeout=300)
    assert (done.returncode, done.stdout.split()[-1]) == (0, "False"), done.stderr


def trained_for(epochs: int, folder: Path) -> list[np.ndarray[Any, Any]]:
    """Weights and slots after a fit that may continue one in `folder`."""
    strategy = strategies.one_device_strategy("CPU:0")
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential([keras.Input([2]), keras.layers.Dense(8, "tanh")])
        model.add(keras.layers.Dense(1))
        model.compile(with_state_dtype(keras.optimizers.Adam(0.1)), "mse")
    x = np.linspace(-1.0, 1.0, 32).reshape(16, 2)
    checkpoint = tfscale.callbacks.Checkpoint(folder)
    model.fit(x, x[:, :1], epochs=epochs, batch_size=4, verbose=0, callbacks=[checkpoint])
    return [numbers(each.value) for each in [*model.weights, *model.optimizer.variables]]


def test_a_resumed_run_rounds_as_one_that_was_not_interrupted(tmp_path: Path) -> None:
    trained_for(2, tmp_path / "parts")
    resumed = trained_for(4, tmp_path / "parts")
    for one, other in zip(resumed, trained_for(4, tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: with_state_dtype(keras.optimizers.Adam(), "float16"), "`dtype` must be"),
        (lambda: with_state_dtype(keras.optimizers.Adam(), rounding="up"), "`rounding` must be"),
        (lambda: with_state_dtype(keras.optimizers.SGD(0.1)), "must have slots"),
        (lambda: with_state_dtype("adam"), "must be a Keras optimizer"),
        (
            lambda: with_state_dtype(
                keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1))
            ),
            "Wrap afterwards",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_an_optimizer_that_has_its_slots_is_refused() -> None:
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([keras.Variable([1.0])])
    with pytest.raises(ValueError, match="has its slots already"):
        with_state_dtype(optimizer)


def test_prepare_keeps_the_dtype_of_slots() -> None:
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(with_state_dtype(keras.optimizers.Adam(0.1)), "mse")
    model.fit(np.ones([4, 2]), np.ones([4, 1]), verbose=0)
    strategy = strategies.one_device_strategy("CPU:0")
    prepared = tfscale.prepare(model, strategy, precision="float32", learning_rate=0.01)
    before, after = (slots_named(each.optimizer, "velocity") for each in (model, prepared))
    assert [each.dtype for each in after] == ["bfloat16", "bfloat16"]
    np.testing.assert_array_equal(numbers(after[0].value), numbers(before[0].value))
