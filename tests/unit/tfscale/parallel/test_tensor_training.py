"""Divided layers train to the numbers of stock Keras on one device, in float64."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from strategies.extension import traced_train_step
from tests.unit.strategies.keras_support.beside_one_device import assert_like_one_device
from tests.unit.tfscale.parallel.divided_models import (
    X,
    attention,
    clipped_adam,
    pair,
    trained,
    whole_arrays,
)
from tfscale.parallel import tensor_parallel, whole

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

Strategies = dict[str, tf.distribute.Strategy]


def test_a_divided_pair_trains_like_one_device(by_shape: Strategies) -> None:
    assert_like_one_device(trained(pair, clipped_adam, epochs=2), by_shape["2x2"])


def test_each_device_has_its_parts_and_their_slots(by_shape: Strategies) -> None:
    strategy = by_shape["2x2"]
    with strategy.scope():
        model, _, rules = pair()
        tensor_parallel(model, rules)
        model.compile(clipped_adam(), "mse")
        model.optimizer.build(model.trainable_variables)
    places = {
        variable.path: [
            copy.device[-5:] for copy in strategy.experimental_local_results(variable._value)
        ]
        for variable in [*model.variables, *model.optimizer.variables]
    }
    second = {path: where for path, where in places.items() if "part1of2" in path}
    assert len(second) == 3 * 3  # kernel and bias of one layer, kernel of the other; two slots
    assert {tuple(where) for where in second.values()} == {("CPU:1", "CPU:3")}
    first = {tuple(where) for path, where in places.items() if path not in second}
    assert first == {("CPU:0", "CPU:2")}


def test_products_and_updates_of_a_part_are_on_its_device(by_shape: Strategies) -> None:
    with by_shape["1x2"].scope():
        model, _, rules = pair()
        tensor_parallel(model, rules)
        model.compile(clipped_adam(), "mse")
    batch = (tf.TensorSpec((4, 6), "float64"), tf.TensorSpec((4, 3), "float64"))
    graph = traced_train_step(model, batch).graph

    def places(kind: str) -> Counter[str]:
        return Counter(each.device[-5:] for each in graph.get_operations() if each.type == kind)

    # Of each part: forward, the gradient of its matrix, and in "down" that of its input. The last
    # layer is whole, and has three.
    assert places("MatMul") == {"CPU:0": 5 + 3, "CPU:1": 5}
    # Kernel and bias of "up", kernel of "down"; two slots of each.
    assert places("AssignSubVariableOp")["CPU:1"] == 3
    assert places("AssignAddVariableOp")["CPU:1"] == 6


def test_the_parts_are_those_of_the_matrix_that_the_layer_drew(by_shape: Strategies) -> None:
    drawn = []
    for divided in (False, True):
        keras.utils.set_random_seed(3)
        with by_shape["1x2"].scope():
            model, _, rules = attention()
            if divided:
                tensor_parallel(model, rules)
        drawn.append(whole_arrays(model))
    for plain, parts in zip(*drawn, strict=True):
        np.testing.assert_array_equal(plain, parts)


def test_each_device_attends_to_the_tokens_that_the_mask_leaves(by_shape: Strategies) -> None:
    with by_shape["1x2"].scope():
        model, tokens, rules = attention()
        plain = model.predict(tokens, verbose=0)
        tensor_parallel(model, rules)
        np.testing.assert_allclose(model.predict(tokens, verbose=0), plain, rtol=1e-12)


def test_a_saved_file_is_that_of_a_plain_model(by_shape: Strategies, tmp_path: Path) -> None:
    kept: list[keras.Model] = []
    keras.utils.set_random_seed(5)
    trained(pair, clipped_adam, epochs=1, kept=kept)(by_shape["1x2"])
    model = kept[0]
    model.save(tmp_path / "model.keras")
    plain = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(whole_arrays(model), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    copy = whole(model)
    for one, other in zip(copy.optimizer.variables, plain.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    np.testing.assert_allclose(plain.predict(X, verbose=0), model.predict(X, verbose=0), 1e-12)
