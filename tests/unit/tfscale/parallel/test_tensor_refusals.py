"""What cannot be divided over the devices of a replica is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from strategies.keras_support.tensor.weight_cut import WeightCut
from tfscale.parallel import TensorRule, tensor_parallel, whole

pytestmark = pytest.mark.own_process

LAYERS = keras.layers
Strategies = dict[str, tf.distribute.Strategy]
COLUMN = [TensorRule(".*/up", "column")]


def with_layer(layer: Any, inputs: Any = None) -> keras.Model:
    return keras.Sequential([keras.Input((6,)) if inputs is None else inputs, layer], name="model")


class Gated(keras.layers.Layer):
    """Dropout between two layers."""

    def build(self, shape: Any) -> None:
        self.up, self.down = LAYERS.Dense(8, name="up"), LAYERS.Dense(6, name="down")
        self.dropout = LAYERS.Dropout(0.5)
        self.up.build(shape)
        self.down.build((None, 8))

    def call(self, inputs: Any) -> Any:
        return self.down(self.dropout(self.up(inputs)))


REFUSED = [
    pytest.param(
        lambda: with_layer(LAYERS.Dense(8, name="up")),
        [],
        "Received: no rule. Pass",
        id="no rule",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.Dense(8, name="up")),
        [TensorRule(".*/other", "column")],
        "`rules` must match layers of the model",
        id="a rule that matches nothing",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.Dense(7, name="up")),
        COLUMN,
        "a multiple of 2, 2 devices times 1 groups. Received: .*axis 1 has size 7",
        id="an odd size",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.Dense(8, name="up")),
        [TensorRule(".*/up", "column", groups=3)],
        "a multiple of 6",
        id="groups",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.LSTM(4, name="up"), keras.Input((3, 6))),
        COLUMN,
        "of the kinds Dense, EinsumDense and Embedding",
        id="another layer",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.Dense(8, name="up")),
        [TensorRule(".*/up", "vocabulary")],
        r'must divide a Dense by "column" or "row".*Pass TensorRule\(.*/up., "column"\)',
        id="another kind",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.Dense(8, "softmax", name="up")),
        COLUMN,
        "`activation` of a column layer",
        id="softmax",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.Dense(8, kernel_constraint="max_norm", name="up")),
        COLUMN,
        "`constraint` of a divided weight",
        id="a constraint",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.Dense(8, kernel_regularizer="orthogonal_regularizer", name="up")),
        COLUMN,
        "`regularizer` of a divided weight",
        id="a regularizer",
    ),
    pytest.param(
        lambda: with_layer(LAYERS.Dense(8, activity_regularizer="l2", name="up")),
        COLUMN,
        "`activity_regularizer` must be None",
        id="an activity regularizer",
    ),
    pytest.param(
        lambda: with_layer(Gated(name="gated")),
        [
            TensorRule(".*/up", "column"),
            TensorRule(".*/down", "row"),
            TensorRule(".*/gated", "block"),
        ],
        "random numbers outside of blocks",
        id="dropout in a block",
    ),
    pytest.param(
        lambda: with_layer(Gated(name="gated")),
        [TensorRule(".*/up", "column"), TensorRule(".*/gated", "block")],
        'the last one by "row"',
        id="a block without a row layer",
    ),
    pytest.param(
        lambda: keras.Sequential([LAYERS.Dense(8, name="up")], name="model"),
        COLUMN,
        "`model` must be built",
        id="not built",
    ),
]


@pytest.mark.parametrize(("make", "rules", "message"), REFUSED)
def test_what_cannot_be_divided_is_refused(
    by_shape: Strategies, make: Callable[[], keras.Model], rules: list[TensorRule], message: str
) -> None:
    with by_shape["1x2"].scope():
        model = make()
        with pytest.raises(ValueError, match=message):
            tensor_parallel(model, rules)


def test_a_model_made_outside_of_the_scope_is_refused(by_shape: Strategies) -> None:
    model = with_layer(LAYERS.Dense(8, name="up"))
    with by_shape["1x2"].scope(), pytest.raises(ValueError, match="must be made inside"):
        tensor_parallel(model, COLUMN)


def test_a_strategy_with_one_device_for_each_replica_is_refused() -> None:
    model = with_layer(LAYERS.Dense(8, name="up"))
    with pytest.raises(ValueError, match=re.escape("several devices for each replica")):
        tensor_parallel(model, COLUMN)


def test_a_plain_model_has_no_whole_copy() -> None:
    with pytest.raises(ValueError, match="must be divided by tensor_parallel"):
        whole(with_layer(LAYERS.Dense(8, name="up")))


@pytest.mark.parametrize("is_trained", [True, False])
def test_a_whole_copy_trains_what_the_divided_model_trains_now(
    by_shape: Strategies, is_trained: bool
) -> None:
    with by_shape["1x2"].scope():
        model = keras.Sequential([keras.Input((6,)), LAYERS.Dense(8, name="up"), LAYERS.Dense(1)])
        model.layers[0].trainable = not is_trained
        tensor_parallel(model, [TensorRule("(.*/)?up", "column")])
        model.layers[0].trainable = is_trained
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
        copy = whole(model)
    names = [variable.name for variable in copy.trainable_variables]
    assert names == ["kernel", "bias"] * (2 if is_trained else 1)
    assert len(copy.optimizer.variables) == 2 + 2 * len(names)


@pytest.mark.parametrize(
    ("compiled", "message"),
    [
        pytest.param(
            lambda: {"optimizer": keras.optimizers.Adam(clipnorm=1.0)}, "`clipnorm`", id="clipnorm"
        ),
        pytest.param(lambda: {"optimizer": keras.optimizers.Lamb()}, "`optimizer`", id="Lamb"),
        pytest.param(lambda: {"optimizer": "adam", "jit_compile": True}, "`jit_compile`", id="XLA"),
    ],
)
def test_what_needs_whole_matrices_is_refused(
    by_shape: Strategies, compiled: Callable[[], Any], message: str
) -> None:
    with by_shape["1x2"].scope():
        model = with_layer(LAYERS.Dense(8, name="up"))
        tensor_parallel(model, COLUMN)
        model.compile(loss="mse", **compiled())
        with pytest.raises(ValueError, match=f"{message} must"):
            model.fit(np.zeros((4, 6)), np.zeros((4, 8)), verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("(", "column"), "regular expression", id="pattern"),
        pytest.param(("a", "diagonal"), "`kind`", id="kind"),
        pytest.param(("a", "row", 2), "`groups` must be 1", id="groups of rows"),
        pytest.param(("a", "column", 0), "`groups`", id="no group"),
    ],
)
def test_impossible_rules_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorRule(*arguments)


def test_groups_are_divided_each() -> None:
    cut = WeightCut(axis=1, size=8, num_parts=2, groups=2)
    whole_matrix = np.arange(8).reshape(1, 8)
    parts = [cut.take(whole_matrix, part) for part in range(2)]
    assert [part.tolist() for part in parts] == [[[0, 1, 4, 5]], [[2, 3, 6, 7]]]
    np.testing.assert_array_equal(cut.joined(parts), whole_matrix)


def test_rows_that_are_no_multiple_go_to_the_first_parts() -> None:
    cut = WeightCut(axis=0, size=5, num_parts=2)
    assert [cut.size_of(0), cut.size_of(1), cut.begin(1)] == [3, 2, 3]
