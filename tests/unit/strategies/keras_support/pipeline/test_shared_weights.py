"""Weights in several stages of a pipeline, against stock Keras on one device."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from strategies.keras_support.pipeline.model_cut import graph_of, nodes_in_order, places_to_cut
from strategies.keras_support.placement.variable_devices import devices_of
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    Program,
    assert_like_one_device,
    found,
)
from tests.unit.strategies.keras_support.pipeline.pipeline_models import CASES
from tfscale.parallel import Pipeline

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]
layers = keras.layers
DRAW = np.random.default_rng(3)
TOKENS, NEXT = DRAW.integers(0, 9, [2, 20, 4])


@pytest.fixture(autouse=True, scope="module")
def _four_devices() -> None:
    strategies.mirrored_strategy(2, devices_per_replica=2)  # TensorFlow makes its CPUs once


class Noting(keras.layers.Dense):
    """Notes which tensors it reads as its kernel, and where they are."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.read: list[tuple[str, str]] = []

    def call(self, x: Any, **named: Any) -> Any:
        kernel = tf.convert_to_tensor(self.kernel)
        if tf.is_symbolic_tensor(kernel):
            self.read.append((kernel.device[-5:], kernel.name))
        return super().call(x, **named)


def tied(kind: Any = layers.Dense) -> Any:
    tokens = keras.Input([4], dtype="int32")
    embedding = layers.ReversibleEmbedding(9, 3, name="embedding")
    shared = kind(3, "tanh", kernel_regularizer="l2", name="shared")
    hidden = layers.Dense(3, "tanh", name="second")(shared(embedding(tokens)))
    return keras.Model(tokens, embedding(shared(hidden), reverse=True))


def compiled(model: Any, **compiling: Any) -> Any:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01, global_clipnorm=0.1), loss, **compiling)
    return model


def program(*, recomputes: bool = False, eagerly: bool = False) -> Program:
    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = compiled(tied(), run_eagerly=eagerly)
        if tf.distribute.get_strategy() is not strategy:
            if recomputes:
                tfscale.recompute(model, layers.Dense)
            Pipeline(model, ["second"], 4, schedule="1f1b")
        given = {"batch_size": 10, "verbose": 0}
        fitted = model.fit(TOKENS, NEXT, epochs=3, shuffle=False, **given)
        evaluated = model.evaluate(TOKENS, NEXT, **given)
        return found(model, fitted, evaluated=evaluated, predicted=model.predict(TOKENS, **given))

    return trained


def test_a_tied_embedding_trains_like_one_device() -> None:
    assert_like_one_device(program(), strategies.mirrored_strategy(2, devices_per_replica=2))


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["recomputes", "eagerly"])
def test_other_ways_to_run_shared_layers(how: str) -> None:
    strategy = strategies.mirrored_strategy(2, devices_per_replica=2)
    assert_like_one_device(program(**{how: True}), strategy)


def test_a_weight_is_where_it_is_used_first_and_sent_once() -> None:
    with strategies.mirrored_strategy(1, devices_per_replica=2).scope():
        model = compiled(tied(Noting))
    Pipeline(model, ["second"], 4)
    model.fit(TOKENS, NEXT, batch_size=20, verbose=0)
    optimizer = model.optimizer
    for variable in [*model.weights, *optimizer._momentums, *optimizer._velocities]:
        expected = "CPU:1" if "second" in variable.path else "CPU:0"
        assert [name[-5:] for name in devices_of(variable)] == [expected], variable.path
    names = [name for device, name in model.layers[2].read if device == "CPU:1"]
    assert len(names) == 4  # microbatches
    assert len(set(names)) == 1


def test_a_layer_with_state_is_not_cut() -> None:
    with strategies.mirrored_strategy(1, devices_per_replica=2).scope():
        shared = layers.BatchNormalization(name="shared")
        inputs = keras.Input([2])
        outputs = layers.Dense(2, name="last")(shared(layers.Dense(2, name="mid")(shared(inputs))))
        model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match=r"'mid': 'shared/moving_mean'.*assign, is used on both"):
        Pipeline(model, ["mid"])
    reasons = places_to_cut(nodes_in_order(graph_of(model)))
    assert [place for place, reason in reasons.items() if not reason] == [3]
    assert Pipeline(model).stage_names[1] == ("last",)


def test_frozen_weights_are_no_state() -> None:
    with strategies.mirrored_strategy(1, devices_per_replica=2).scope():
        model = tied()
        model.get_layer("embedding").trainable = False
    assert not any(places_to_cut(nodes_in_order(graph_of(model))).values())


@pytest.mark.thorough
@pytest.mark.parametrize("shard", [1, 2, 3])
def test_shared_weights_in_parts(shard: int) -> None:
    strategy = strategies.mirrored_strategy(2, devices_per_replica=2, shard=shard)
    build, data, names = CASES["shared"]

    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = build()
        if tf.distribute.get_strategy() is not strategy:
            Pipeline(model, names[2], 4, schedule="1f1b")
        return found(model, model.fit(**data, batch_size=16, epochs=3, shuffle=False, verbose=0))

    assert_like_one_device(trained, strategy)
