"""Sharded state trains to the numbers of stock Keras on one device, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
    found,
)

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

OPTIMIZERS = keras.optimizers
LAYERS = keras.layers
DRAW = np.random.default_rng(4)
TOKENS = DRAW.integers(0, 17, size=(22, 3))
IMAGES = DRAW.normal(size=(22, 6, 6, 2))
Model = Callable[[], tuple[Any, Any]]
Optimizer = Callable[[], Any]


@pytest.fixture(scope="module")
def sharded() -> Callable[[int], tf.distribute.Strategy]:
    made: dict[int, tf.distribute.Strategy] = {}

    def by_stage(stage: int) -> tf.distribute.Strategy:
        if stage not in made:
            made[stage] = strategies.mirrored_strategy(3, shard=stage)
        return made[stage]

    return by_stage


def dense_layers() -> tuple[Any, Any]:
    layers = [
        keras.Input((3,)),
        LAYERS.Dense(7, "tanh", kernel_regularizer="l2"),
        LAYERS.Dense(7, "tanh", kernel_constraint="max_norm"),
        LAYERS.Dense(2),
    ]
    return keras.Sequential(layers), X


def six_columns() -> tuple[Any, Any]:
    """A kernel of which each of three replicas has two columns."""
    return keras.Sequential([keras.Input((3,)), LAYERS.Dense(6)]), X


def embeddings() -> tuple[Any, Any]:
    tokens = keras.Input((3,), dtype="int32")
    places = LAYERS.Embedding(3, 4)(keras.ops.arange(3))
    hidden = LAYERS.Embedding(17, 4)(tokens) + places
    wide = LAYERS.Embedding(17, 20)(tokens)
    both = LAYERS.Flatten()(LAYERS.Concatenate()([hidden, wide]))
    return keras.Model(tokens, LAYERS.Dense(2)(both)), TOKENS


def convolutions() -> tuple[Any, Any]:
    layers = [
        keras.Input((6, 6, 2)),
        LAYERS.Conv2D(5, 3, use_bias=False),  # its gradient would be 0, which Adam magnifies
        LAYERS.BatchNormalization(synchronized=True),
        LAYERS.ReLU(),
        LAYERS.GlobalAveragePooling2D(),
        LAYERS.Dense(2),
    ]
    return keras.Sequential(layers), IMAGES


def trained(
    strategy: tf.distribute.Strategy, model_and_inputs: Model, optimizer: Any, labels: Any = Y
) -> Found:
    """Three steps of 8, 8 and 6 examples, twice: on three replicas of 3, 3, 2 and 2, 2, 2."""
    with strategy.scope():
        model, inputs = model_and_inputs()
        model.compile(optimizer(), "mse", metrics=["mae"], auto_scale_loss=False)
    history = model.fit(inputs, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
    slots = {f"slot {i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}
    evaluated = model.evaluate(inputs, labels, batch_size=8, verbose=0)
    predicted = model.predict(inputs, batch_size=8, verbose=0)
    return found(model, history, evaluated=evaluated, predicted=predicted, **slots)


def averaged_lamb() -> Any:
    return OPTIMIZERS.Lamb(0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4)


def averaged_adam() -> Any:
    return OPTIMIZERS.Adam(0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4)


def scaled() -> Any:
    return OPTIMIZERS.LossScaleOptimizer(
        OPTIMIZERS.Adam(0.01, global_clipnorm=0.1), dynamic_growth_steps=2
    )


CASES: dict[str, tuple[int, Model, Optimizer]] = {
    "Adam at 1": (1, dense_layers, lambda: OPTIMIZERS.Adam(0.01)),
    "clipped AdamW at 1": (
        1,
        embeddings,
        lambda: OPTIMIZERS.AdamW(0.01, weight_decay=0.02, global_clipnorm=0.1),
    ),
    "accumulation at 2": (
        2,
        dense_layers,
        lambda: OPTIMIZERS.Adam(0.01, gradient_accumulation_steps=2, global_clipnorm=0.1),
    ),
    "LAMB and averages at 3": (3, dense_layers, averaged_lamb),
    "clipped AdamW at 3": (
        3,
        embeddings,
        lambda: OPTIMIZERS.AdamW(0.01, weight_decay=0.02, global_clipnorm=0.1),
    ),
    "BatchNormalization at 3": (3, convolutions, lambda: OPTIMIZERS.Adam(0.01)),
}


THOROUGH = ("Adam at 1", "clipped AdamW at 3")


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.thorough) if c in THOROUGH else c for c in CASES],
)
def test_three_replicas_train_as_one_device(
    case: str, sharded: Callable[[int], tf.distribute.Strategy]
) -> None:
    stage, model, optimizer = CASES[case]
    assert_like_one_device(lambda s: trained(s, model, optimizer), sharded(stage))


def test_a_step_in_which_one_replica_overflows_is_skipped_by_all(
    sharded: Callable[[int], tf.distribute.Strategy],
) -> None:
    labels = np.zeros((22, 6))
    labels[9, 0] = 1.7e308  # twice that is inf; the other replicas' columns are finite
    expected = assert_like_one_device(lambda s: trained(s, six_columns, scaled, labels), sharded(2))
    weights = [value for name, value in expected.items() if name.startswith("weight")]
    assert all(np.isfinite(weight).all() for weight in weights)
    scalars = [float(v) for n, v in expected.items() if n.startswith("slot") and not np.ndim(v)]
    assert 4 in scalars, "the second of three steps is skipped, in both epochs"


ALL: dict[str, Optimizer] = {
    "SGD": lambda: OPTIMIZERS.SGD(0.05, momentum=0.9, nesterov=True),
    "clipped by variable": lambda: OPTIMIZERS.Adam(0.01, clipnorm=0.05),
    "clipped by value": lambda: OPTIMIZERS.Adam(0.01, clipvalue=0.01),
    "averages": averaged_adam,
    "LAMB": lambda: OPTIMIZERS.Lamb(0.01),
    "Muon": lambda: OPTIMIZERS.Muon(0.01),
    "Adafactor": lambda: OPTIMIZERS.Adafactor(0.01),
    "Nadam": lambda: OPTIMIZERS.Nadam(0.01),
    "Lion": lambda: OPTIMIZERS.Lion(0.001),
    "RMSprop": lambda: OPTIMIZERS.RMSprop(0.01, centered=True),
    "Ftrl": lambda: OPTIMIZERS.Ftrl(0.01),
    "Adagrad": lambda: OPTIMIZERS.Adagrad(0.01),
    "Adadelta": lambda: OPTIMIZERS.Adadelta(0.5),
    "Adamax": lambda: OPTIMIZERS.Adamax(0.01),
}


@pytest.mark.thorough
@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("model", [dense_layers, embeddings])
@pytest.mark.parametrize("optimizer", ALL)
def test_every_optimizer_trains_as_on_one_device(
    optimizer: str,
    model: Model,
    stage: int,
    sharded: Callable[[int], tf.distribute.Strategy],
) -> None:
    assert_like_one_device(lambda s: trained(s, model, ALL[optimizer]), sharded(stage))
