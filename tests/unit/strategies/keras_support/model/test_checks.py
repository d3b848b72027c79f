"""What cannot train correctly is refused before the first step, by name and with the cure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process

X, Y = np.ones([4, 3], np.float32), np.ones([4, 1], np.float32)


@pytest.fixture(scope="module")
def two() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


@pytest.fixture(scope="module")
def one(two: object) -> tf.distribute.Strategy:
    return strategies.one_device_strategy()


def layered(name: str) -> Any:
    layers = [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")]
    return keras.Sequential(layers, name=name)


def built_sgd(model: Any) -> Any:
    optimizer = keras.optimizers.SGD(0.1, name="stray")
    optimizer.build(model.trainable_variables)
    return optimizer


def is_untouched(model: Any) -> bool:
    kernel, bias = model.get_weights()
    return bool((kernel == 1).all() and (bias == 0).all() and model.optimizer.iterations == 0)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_a_model_whose_layers_were_made_outside_the_scope(
    two: tf.distribute.Strategy, call: str
) -> None:
    stray = layered("stray")
    with two.scope():
        model = keras.Sequential([stray], name="outer")
        model.compile(keras.optimizers.SGD(0.1), "mse")
    message = r"`model` 'outer' must be made inside `strategy.scope\(\)`.*'.*kernel'.*with strategy"
    with pytest.raises(ValueError, match=message):
        getattr(model, call)(X, Y, verbose=0)
    assert is_untouched(model)


def test_prediction_with_layers_made_outside_the_scope(two: tf.distribute.Strategy) -> None:
    stray = layered("stray")
    with two.scope():
        model = keras.Sequential([stray], name="outer")
    with pytest.raises(ValueError, match="`model` 'outer' must be made inside"):
        model.predict(X, verbose=0)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_a_model_made_outside_the_scope_and_compiled_inside(
    two: tf.distribute.Strategy, call: str
) -> None:
    model = layered("stray")
    with two.scope():
        model.compile(keras.optimizers.SGD(0.1), "mse")
        message = r"`model` 'stray' must be made inside `strategy.scope\(\)`.*[Bb]uild and compile"
        with pytest.raises(ValueError, match=message):
            getattr(model, call)(X, Y, verbose=0)
    assert is_untouched(model)


def test_an_optimizer_made_outside_the_scope(two: tf.distribute.Strategy) -> None:
    with two.scope():
        model = layered("inner")
    optimizer = built_sgd(layered("another"))
    with two.scope():
        model.compile(optimizer, "mse")
    message = r"`optimizer` 'stray' must be made inside `strategy.scope\(\)`.*with strategy.scope"
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, verbose=0)
    assert is_untouched(model)


def test_an_optimizer_passed_outside_the_scope_before_it_has_variables(
    two: tf.distribute.Strategy,
) -> None:
    with two.scope():
        model = layered("inner")
    model.compile(keras.optimizers.SGD(0.1, name="stray"), "mse")
    with pytest.raises(ValueError, match="`optimizer` 'stray' must be made inside"):
        model.fit(X, Y, verbose=0)
    assert is_untouched(model)


@contextlib.contextmanager
def distribution() -> Iterator[None]:
    """Keras's distribution API, which the TensorFlow backend accepts and ignores."""
    mesh = keras.distribution.DeviceMesh((1,), ["batch"], ["cpu:0"])
    keras.distribution.set_distribution(keras.distribution.DataParallel(device_mesh=mesh))
    try:
        yield
    finally:
        keras.distribution.set_distribution(None)


@pytest.mark.skipif(
    keras.__version__.startswith("3.14."),
    reason="Keras 3.14 cannot make a DataParallel on TensorFlow, so it cannot be set",
)
@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_keras_own_distribution(two: tf.distribute.Strategy, call: str) -> None:
    with two.scope():
        model = layered("inner")
        model.compile(keras.optimizers.SGD(0.1), "mse")
    message = r"keras.distribution must not be set.*DataParallel.*set_distribution\(None\)"
    with distribution(), pytest.raises(ValueError, match=message):
        getattr(model, call)(X, **({} if call == "predict" else {"y": Y}), verbose=0)
    assert is_untouched(model)
    model.fit(X, Y, verbose=0)
    assert not is_untouched(model)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_xla_on_several_replicas(two: tf.distribute.Strategy, call: str) -> None:
    with two.scope():
        model = layered("inner")
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=True)
    message = (
        r"`jit_compile` must not be True.*jit_compile=True with 2 replicas.*jit_compile='auto'"
    )
    with pytest.raises(ValueError, match=message):
        getattr(model, call)(X, Y, verbose=0)
    assert is_untouched(model)
    with two.scope():
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile="auto")
    model.fit(X, Y, verbose=0)
    assert not is_untouched(model)


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_a_state_of_the_whole_batch(
    two: tf.distribute.Strategy, one: tf.distribute.Strategy, call: str
) -> None:
    def made(strategy: tf.distribute.Strategy) -> keras.Model:
        with strategy.scope():
            layers = [keras.Input(batch_shape=(4, 5, 2)), keras.layers.GRU(3, stateful=True)]
            model = keras.Sequential([*layers, keras.layers.Dense(1)])
            model.compile("sgd", "mse")
        return model

    x = np.ones([4, 5, 2])
    targets = {} if call == "predict" else {"y": np.ones([4, 1])}
    with pytest.raises(ValueError, match=r"`stateful` must be False.*one_device_strategy\(\)"):
        getattr(made(two), call)(x, batch_size=4, verbose=0, **targets)
    getattr(made(one), call)(x, batch_size=4, verbose=0, **targets)


def test_a_backup_in_mid_epoch(two: tf.distribute.Strategy, tmp_path: Path) -> None:
    with two.scope():
        model = layered("inner")
        model.compile(keras.optimizers.SGD(0.1), "mse")
    often = keras.callbacks.BackupAndRestore(str(tmp_path / "often"), save_freq=2)
    message = r"`save_freq` of BackupAndRestore must be 'epoch'.*save_freq=2\. .*save_freq='epoch'"
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, verbose=0, callbacks=[often])
    assert is_untouched(model)
    whole = keras.callbacks.BackupAndRestore(str(tmp_path / "whole"))
    model.fit(X, Y, verbose=0, callbacks=[whole])
    assert not is_untouched(model)


def test_a_metric_made_outside_the_scope_counts_right_within_one_process(
    two: tf.distribute.Strategy,
) -> None:
    metric = keras.metrics.MeanAbsoluteError()
    with two.scope():
        model = layered("inner")
        model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[metric])
    x = np.arange(15.0, dtype=np.float32).reshape(5, 3)
    found = model.evaluate(x, np.zeros([5, 1]), verbose=0)[1]
    assert found == pytest.approx(x.sum(axis=1).mean())


def trained(strategy: tf.distribute.Strategy, is_inside: bool, **arguments: Any) -> Any:
    """The weights after a fit of a model made inside a strategy's scope, or outside it."""
    with strategy.scope() if is_inside else contextlib.nullcontext():
        model = layered("any")
        optimizer = built_sgd(model)
    with strategy.scope():
        model.compile(optimizer, "mse", **arguments)
        model.fit(X, Y, verbose=0)
    return np.concatenate([np.ravel(weight) for weight in model.get_weights()])


@pytest.mark.parametrize(
    ("is_inside", "jit_compile"),
    [
        pytest.param(False, False, id="made outside the scope"),
        pytest.param(True, True, id="XLA"),
    ],
)
def test_one_replica_matches_stock_keras(
    one: tf.distribute.Strategy, is_inside: bool, jit_compile: bool
) -> None:
    # The loss (3 k + b - 1)^2 at k = 1, b = 0 has the gradient 4, everywhere.
    found = trained(one, is_inside, jit_compile=jit_compile)
    np.testing.assert_allclose(found, [0.6, 0.6, 0.6, -0.4], rtol=1e-6)
