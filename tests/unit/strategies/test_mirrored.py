"""Mirrored strategies: errors, and every all-reduce matches single-device results."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.coordination.collective_keys import KEYS_PER_STRATEGY

pytestmark = pytest.mark.own_process


@pytest.fixture(autouse=True, scope="module")
def first_strategy() -> tf.distribute.Strategy:
    """The first strategy of this process, so that TensorFlow starts with three CPUs."""
    keras.config.set_floatx("float64")
    return strategies.mirrored_strategy(3)


def trained(strategy: tf.distribute.Strategy | None, width: int, epochs: int = 2) -> Any:
    """A small training with clipping; batches of 7 of 20 rows are not divisible."""
    with (strategy or tf.distribute.get_strategy()).scope():
        model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(width, "tanh", kernel_initializer=normal(0)),
                keras.layers.Dense(1, kernel_initializer=normal(1)),
            ]
        )
        model.compile(keras.optimizers.Adam(0.05, global_clipnorm=0.5), "mse")
    continue_training(model, epochs)
    return model


def continue_training(model: Any, epochs: int) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=[20, 3]), draw.normal(size=[20, 1])
    model.fit(x, y, batch_size=7, epochs=epochs, shuffle=False, verbose=0)


def normal(seed: int) -> Any:
    return keras.initializers.RandomNormal(stddev=0.5, seed=seed)


def assert_same_weights(model: Any, reference: Any) -> None:
    for found, wanted in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("num_replicas", [0, -1, True, "2", 1.0])
def test_an_impossible_number_of_replicas_is_refused(num_replicas: Any) -> None:
    message = rf"`num_replicas` must be a positive integer.*num_replicas={num_replicas!r}"
    with pytest.raises(ValueError, match=message):
        strategies.mirrored_strategy(num_replicas)


@pytest.mark.parametrize("parts", [0, -2, True, "2"])
def test_an_impossible_number_of_virtual_gpus_is_refused(parts: Any) -> None:
    message = rf"`logical_devices_per_gpu` must be a positive.*logical_devices_per_gpu={parts!r}"
    with pytest.raises(ValueError, match=message):
        strategies.mirrored_strategy(2, logical_devices_per_gpu=parts)


def test_an_unknown_all_reduce_is_refused_with_the_known_ones() -> None:
    message = "`all_reduce` must be one of auto, nccl, .*Received: all_reduce='NCCL'"
    with pytest.raises(ValueError, match=message):
        strategies.mirrored_strategy(2, all_reduce="NCCL")


@pytest.mark.parametrize(
    ("devices", "num_replicas", "message"),
    [
        pytest.param(("CPU:0", "CPU:0"), None, "`devices` must name different", id="twice"),
        pytest.param(
            ("CPU:0", "/device:cpu:0"), None, "`devices` must name different", id="twice, spelled"
        ),
        pytest.param((), None, "`devices` must name different devices", id="none"),
        pytest.param(("CPU:0", "CPU:1"), 3, "must be 2, the number of `devices`", id="unequal"),
        pytest.param(("CPU:0", "XPU:1"), None, "Received: 'XPU:1'. Choose from", id="unknown kind"),
    ],
)
def test_impossible_devices_are_refused(
    devices: tuple[str, ...], num_replicas: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        strategies.mirrored_strategy(num_replicas, devices=devices)


def test_a_device_without_a_number_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="`devices` must"):
        strategies.mirrored_strategy(devices=("CPU:0", "CPU:one"))


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this host has a GPU")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            {"all_reduce": "nccl"}, "`all_reduce` must not be 'nccl' without GPUs", id="nccl"
        ),
        pytest.param(
            {"logical_devices_per_gpu": 2},
            "`logical_devices_per_gpu` must be None on a host without a GPU",
            id="virtual",
        ),
        pytest.param(
            {"num_replicas": None, "devices": ("GPU:0", "GPU:1")},
            "`devices` must be devices of this host. Received: 'GPU:0'",
            id="named",
        ),
    ],
)
def test_what_needs_gpus_is_refused_without_them(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strategies.mirrored_strategy(**{"num_replicas": 2, **arguments})


def test_more_replicas_than_tensorflow_started_with_are_refused_with_the_cure() -> None:
    tf.zeros([])  # starts TensorFlow, if nothing has
    with pytest.raises(RuntimeError, match=r"before TensorFlow starts.*Build the strategy first"):
        strategies.mirrored_strategy(4)


def test_a_second_strategy_may_have_as_many_replicas_or_fewer() -> None:
    assert [strategies.mirrored_strategy(n).num_replicas_in_sync for n in (3, 3, 2, 1)] == [
        3,
        3,
        2,
        1,
    ]


def test_replicas_use_the_named_devices() -> None:
    strategy = strategies.mirrored_strategy(devices=("/device:CPU:2", "cpu:0"))
    assert [name.rpartition("/")[2] for name in strategy.extended.worker_devices] == [
        "device:CPU:2",
        "device:CPU:0",
    ]


@pytest.mark.parametrize("all_reduce", ["auto", "hierarchical_copy", "reduction_to_one_device"])
def test_each_all_reduce_on_cpus_trains_as_one_device(all_reduce: str) -> None:
    strategy = strategies.mirrored_strategy(2, all_reduce=all_reduce)
    assert_same_weights(trained(strategy, width=4), trained(None, width=4))


def test_named_devices_train_as_one_device() -> None:
    strategy = strategies.mirrored_strategy(devices=("CPU:2", "CPU:0"))
    assert_same_weights(trained(strategy, width=4), trained(None, width=4))


def test_one_replica_trains_as_stock_keras() -> None:
    assert_same_weights(trained(strategies.mirrored_strategy(1), width=4), trained(None, width=4))


def test_strategies_of_one_process_take_turns_with_models_of_other_sizes() -> None:
    models = [
        trained(strategies.mirrored_strategy(2), width=4, epochs=1),
        trained(strategies.mirrored_strategy(3), width=7, epochs=1),
        trained(strategies.mirrored_strategy(2), width=2, epochs=1),
    ]
    for model in models:
        continue_training(model, epochs=1)
    for model, width in zip(models, (4, 7, 2), strict=True):
        reference = trained(None, width=width, epochs=1)
        continue_training(reference, epochs=1)
        assert_same_weights(model, reference)


def test_two_strategies_use_different_ranges_of_collective_keys() -> None:
    before = tf.distribute.MirroredStrategy._collective_key_base
    starts = [strategies.mirrored_strategy(2).extended._collective_key_base for _ in range(4)]
    assert all(later - start >= KEYS_PER_STRATEGY for start, later in itertools.pairwise(starts))
    assert tf.distribute.MirroredStrategy._collective_key_base == before


def test_a_strategy_of_the_user_keeps_its_collective_keys(
    first_strategy: tf.distribute.Strategy,
) -> None:
    own = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    apart = first_strategy.extended._collective_key_base - own.extended._collective_key_base
    assert abs(apart) >= KEYS_PER_STRATEGY
