"""Clustered training against NumPy: on one device, on two replicas, and with what a step may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.tfscale.shrink.clustering.clustered_by_hand import (
    VALUES,
    ByHand,
    slow,
    sparse_network,
    sparse_weights,
)
from tests.unit.tfscale.shrink.pruning.pruned_by_hand import (
    BATCH,
    EPOCHS,
    X,
    fitted,
    network,
    sgd,
)
from tfscale.callbacks import Checkpoint, LocalUpdates
from tfscale.shrink import Cluster, OneShot, Prune, quantization_aware

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("two", "in_double_precision")]


@pytest.mark.parametrize(
    ("arguments", "compiling"),
    [
        pytest.param({"momentum": 0.875}, {}, id="momentum"),
        pytest.param({}, {"steps_per_execution": 8}, id="execution"),
        pytest.param({}, {"run_eagerly": True}, id="eager", marks=pytest.mark.thorough),
        pytest.param({}, {"jit_compile": True}, id="compiled", marks=pytest.mark.thorough),
    ],
)
def test_clustered_training_is_that_of_numpy(
    two: tf.distribute.Strategy,
    one: tf.distribute.Strategy,
    arguments: dict[str, Any],
    compiling: dict[str, Any],
) -> None:
    expected = ByHand(**arguments).weights
    for strategy in (one,) if "jit_compile" in compiling else (one, two):
        cluster = Cluster(VALUES)
        model = sparse_network(strategy, slow(**arguments), **compiling)
        weights = fitted(model, cluster)
        for weight, wanted in zip(weights, expected, strict=True):
            np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)
        for i, (path, values) in enumerate(cluster.codebooks().items()):
            assert path == model.weights[2 * i].path
            np.testing.assert_allclose(
                values, np.setdiff1d(np.unique(expected[2 * i]), [0]), rtol=1e-9
            )
            np.testing.assert_array_equal(weights[2 * i] == 0, sparse_weights()[2 * i] == 0)
        assert_equal_copies(strategy, model)


def assert_equal_copies(strategy: Any, model: Any) -> None:
    for variable in model.trainable_variables:
        copies = [v.numpy() for v in strategy.experimental_local_results(variable.value)]
        np.testing.assert_array_equal(copies[0], copies[-1])


def values_in(weight: Any) -> int:
    return len(np.setdiff1d(np.unique(weight), [0]))


@pytest.mark.thorough
def test_a_weight_has_few_values_whatever_the_optimizer_remembers(
    two: tf.distribute.Strategy,
) -> None:
    model = sparse_network(two, lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5))
    fitted(model)  # slots that differ within what becomes a cluster
    counts: list[int] = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: counts.append(values_in(model.get_weights()[0]))
    )
    for _ in range(2):
        fitted(model, Cluster(VALUES), count)
    assert counts == [VALUES] * 2 * EPOCHS * -(-len(X) // BATCH)
    averages = [v.numpy() for v in model.optimizer.variables if "average" in v.path][::2]
    assert all(values_in(average) <= VALUES for average in averages)


def test_a_later_fit_continues_with_the_same_clusters(two: tf.distribute.Strategy) -> None:
    expected = fitted(sparse_network(two, slow(momentum=0.5)), Cluster(VALUES))
    model, cluster = sparse_network(two, slow(momentum=0.5)), Cluster(VALUES)
    fitted(model, cluster, epochs=EPOCHS // 2)
    weights = fitted(model, cluster, epochs=EPOCHS - EPOCHS // 2)
    for weight, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)


def test_a_resumed_run_has_the_clusters_of_its_checkpoint(
    two: tf.distribute.Strategy, one: tf.distribute.Strategy, tmp_path: Path
) -> None:
    expected = fitted(sparse_network(two, slow(momentum=0.5)), Cluster(VALUES))
    first = sparse_network(two, slow(momentum=0.5))
    fitted(first, Cluster(VALUES), Checkpoint(tmp_path), epochs=2)
    cluster, resumed = Cluster(VALUES), network(one, slow(momentum=0.5))
    weights = fitted(resumed, cluster, Checkpoint(tmp_path))
    for weight, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="`num_clusters` must be that of"):
        fitted(network(one, slow(momentum=0.5)), Cluster(7), Checkpoint(tmp_path), epochs=9)


@pytest.mark.thorough
@pytest.mark.parametrize("overwrites", [None, 3])
def test_moving_averages_are_those_of_the_values(
    two: tf.distribute.Strategy, overwrites: int | None
) -> None:
    optimizer = slow(
        momentum=0.5, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=overwrites
    )
    model = sparse_network(two, optimizer)
    fitted(model, Cluster(VALUES))
    averages = [v.numpy() for v in model.optimizer.variables if "average" in v.path]
    assert [values_in(average) for average in averages[::2]] == [VALUES] * 2
    if overwrites is None:
        expected = ByHand(momentum=0.5, average=0.75).averages
        for average, wanted in zip(averages, expected, strict=True):
            np.testing.assert_allclose(average, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("order", ["after", "before"])
def test_replicas_that_step_locally_have_the_values_of_numpy(
    two: tf.distribute.Strategy, order: str
) -> None:
    expected = ByHand(momentum=0.5, replicas=2, round_steps=3).weights
    model, cluster = sparse_network(two, slow(momentum=0.5)), Cluster(VALUES)
    callbacks = [LocalUpdates(3), cluster] if order == "after" else [cluster, LocalUpdates(3)]
    for weight, wanted in zip(fitted(model, *callbacks), expected, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)
    assert_equal_copies(two, model)


def test_a_model_that_trains_for_eight_bits_keeps_values_and_zeros(
    two: tf.distribute.Strategy,
) -> None:
    with two.scope():
        aware = quantization_aware(sparse_network(two, sgd()), calibration=X)
        aware.compile(slow()(), "mse")
    fitted(aware, Cluster(VALUES))
    kernel = np.array(aware.get_layer("hidden_rounded").layer.kernel)
    assert values_in(kernel) <= VALUES
    np.testing.assert_array_equal(kernel == 0, sparse_weights()[0] == 0)


def test_kept_layers_are_not_clustered(one: tf.distribute.Strategy) -> None:
    model = sparse_network(one, slow())
    cluster = Cluster(2, keep=["hidden"])
    weights = fitted(model, cluster, epochs=1)
    assert values_in(weights[0]) > 10
    assert values_in(weights[2]) <= 2


@pytest.mark.parametrize("num_clusters", [0, 65536, 2.5, "4"])
def test_an_impossible_number_is_refused(num_clusters: Any) -> None:
    with pytest.raises(ValueError, match="`num_clusters` must be"):
        Cluster(num_clusters)


def test_pruning_in_the_same_fit_is_refused(one: tf.distribute.Strategy) -> None:
    with pytest.raises(ValueError, match="one Cluster, and no Prune"):
        fitted(network(one, slow()), Cluster(2), Prune(OneShot(0.5)))


def test_sharded_slots_are_refused() -> None:
    model = network(strategies.mirrored_strategy(2, shard=1), slow())
    with pytest.raises(ValueError, match="must not contain Cluster"):
        fitted(model, Cluster(2))


def test_a_kernel_of_one_number_is_clustered(one: tf.distribute.Strategy) -> None:
    with one.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    cluster = Cluster(4)
    model.fit(np.ones([4, 1]), np.ones([4, 1]), verbose=0, callbacks=[cluster])
    assert [len(values) for values in cluster.codebooks().values()] == [1]


def test_weights_that_are_not_finite_are_refused(one: tf.distribute.Strategy) -> None:
    model = network(one, slow())
    model.layers[0].kernel.assign(np.full(model.layers[0].kernel.shape, np.nan))
    with pytest.raises(ValueError, match="must have finite weights for Cluster"):
        fitted(model, Cluster(2))
