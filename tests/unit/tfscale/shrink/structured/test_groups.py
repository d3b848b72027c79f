"""Which channels belong together, and which stay; expected groups are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tests.unit.tfscale.shrink.structured.cut_models import (
    inception,
    inner_models,
    plain_cnn,
    residual,
    separable,
    shared,
    transformer,
    with_drawn_weights,
)
from tfscale.shrink import channel_groups

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]
L = keras.layers


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param(
            plain_cnn,
            {("first",): 6, ("second",): 8, ("hidden",): 12},
            id="a chain",
        ),
        pytest.param(
            residual,
            {("stem", "one_out", "two_out"): 8, ("one_in",): 6, ("two_in",): 6},
            id="sums",
        ),
        pytest.param(
            inception,
            {("stem",): 5, ("one",): 4, ("three",): 6, ("after",): 7},
            id="concatenation",
        ),
        pytest.param(
            separable,
            {("stem",): 6, ("separable", "excite"): 8, ("squeeze",): 3, ("transposed",): 5},
            id="depthwise, and a product",
        ),
        pytest.param(
            # `again` is called with its own output: its inputs are its outputs, and the tower's.
            shared,
            {("first",): 7, ("tower/dense",): 9, ("tower/dense_1", "again"): 6},
            id="layers called twice",
        ),
        pytest.param(
            transformer,
            {
                ("attention/heads",): 4,
                ("up",): 10,
                ("middle",): 9,
                ("pool/heads",): 2,
                ("pool",): 6,
            },
            id="attention",
        ),
        pytest.param(
            # `scale` reads what `before` and `deep` make, and its outputs go back to its inputs.
            inner_models,
            {
                ("before", "block/deepest/deep"): 6,
                ("scale",): 6,
                ("block/conv1d",): 3,
                ("dense",): 7,
            },
            id="models in models",
        ),
    ],
)
def test_channels_that_must_go_together_are_one_group(
    model: Callable[[], keras.Model], expected: dict[tuple[str, ...], int]
) -> None:
    keras.utils.clear_session()  # so that unnamed layers have the same names in each test
    groups = channel_groups(model()).groups.values()
    assert {group.layers: group.count for group in groups} == expected


def test_each_position_names_its_channel() -> None:
    inputs = keras.Input((2, 2, 1))
    x = L.Concatenate()([L.Conv2D(2, 1, name="a")(inputs), L.Conv2D(1, 1, name="b")(inputs)])
    model = keras.Model(inputs, L.Dense(1, name="end")(L.Flatten()(x)))
    group = channel_groups(model).groups["a"]
    described = {
        (part.variable.path, part.axis, part.role): part.channels.tolist() for part in group.slices
    }
    assert described == {
        ("a/kernel", 3, "makes"): [0, 1],
        ("a/bias", 0, "follows"): [0, 1],
        ("end/kernel", 0, "reads"): [0, 1, -1] * 4,
    }


def test_scores_are_the_norms_of_all_weights_of_a_channel() -> None:
    layers = [L.Dense(3, name="up"), L.BatchNormalization(), L.Dense(2, name="down")]
    model = with_drawn_weights(keras.Sequential([keras.Input([4]), *layers]))
    kernel, bias, gamma, beta, _, _, reading, _ = (np.asarray(w) for w in model.get_weights())
    squares = (kernel**2).sum(0) + bias**2 + gamma**2 + beta**2 + (reading**2).sum(1)
    np.testing.assert_allclose(channel_groups(model).groups["up"].scores(), np.sqrt(squares))


def of_dense(make: Callable[[Any], Any]) -> keras.Model:
    """A model in which `make` gets the 6 values [batch, 6] of a layer "up" and returns others."""
    inputs = keras.Input((4,))
    return keras.Model(inputs, L.Dense(2, name="end")(make(L.Dense(6, name="up")(inputs))))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(L.LayerNormalization(name="n"), "'n' computes over all", id="normalization"),
        pytest.param(L.Softmax(name="n"), "'n' computes over all channels", id="softmax"),
        pytest.param(L.Dense(6, name="n").__call__, None, id="dense"),
        pytest.param(
            L.GaussianNoise(0.1, name="n"), None, id="noise, which treats channels separately"
        ),
        pytest.param(
            lambda x: L.Reshape((2, 3), name="n")(x), "'n' changes a shape", id="columns in rows"
        ),
        pytest.param(lambda x: x[:, :3], "is of a kind without a rule", id="an unknown operation"),
        pytest.param(lambda x: x * np.arange(6.0), "computes with an array", id="an array"),
        pytest.param(lambda x: x * 2.0 + 1.0, None, id="numbers"),
        pytest.param(L.Lambda(lambda x: x, name="n"), "without a rule", id="a function"),
        pytest.param(
            lambda x: L.LSTM(3, name="n")(L.RepeatVector(2)(x)), "without a rule", id="recurrent"
        ),
        pytest.param(L.Activation("softmax", name="n"), "activation 'softmax'", id="activation"),
        pytest.param(
            lambda x: x * L.Dense(1, name="gate")(x), None, id="a gate for all channels together"
        ),
    ],
)
def test_what_is_mixed_or_not_known_stays_and_the_reason_is_said(
    make: Callable[[Any], Any], reason: str | None
) -> None:
    report = channel_groups(of_dense(make))
    if reason is None:
        assert "up" in report.groups
        assert "up" not in report.kept
    else:
        assert "up" not in report.groups
        assert report.kept["up"].startswith("6 of 6, because ")
        assert reason in report.kept["up"]
        assert report.kept["up"] in str(report)


def test_a_gate_that_is_repeated_for_all_channels_stays() -> None:
    report = channel_groups(of_dense(lambda x: x * L.Dense(1, name="gate")(x)))
    assert "repeats one channel for all others" in report.kept["gate"]


def test_a_sum_with_an_input_of_the_model_stays() -> None:
    inputs = keras.Input((4,))
    hidden = L.Add(name="sum")([inputs, L.Dense(4, name="up")(inputs)])
    report = channel_groups(keras.Model(inputs, L.Dense(1)(hidden)))
    assert not report.groups
    assert "'sum' combines channels with values that always stay" in report.kept["up"]


def test_outputs_of_the_model_stay_also_in_the_middle() -> None:
    inputs = keras.Input((4,))
    middle = L.Dense(5, name="up")(inputs)
    report = channel_groups(keras.Model(inputs, [middle, L.Dense(1)(middle)]))
    assert not report.groups
    assert "output of the model" in report.kept["up"]


def test_a_derived_class_and_quantized_layers_have_no_rule() -> None:
    class Half(keras.layers.Dense):
        def call(self, x: Any) -> Any:
            return super().call(x) / 2

    report = channel_groups(of_dense(Half(3, name="half")))
    assert "without a rule for channels, Half" in report.whole["half"]
    model = of_dense(L.Dense(3, name="wide"))
    model.get_layer("wide").enable_lora(2)
    assert "LoRA" in channel_groups(model).whole["wide"]


def test_a_layer_that_an_unknown_one_uses_too_stays() -> None:
    class Both(keras.layers.Layer):
        def __init__(self, inner: Any) -> None:
            super().__init__(name="both")
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

    inputs = keras.Input((4,))
    up = L.Dense(6, name="up")
    x = L.Concatenate()([L.Dense(2)(up(inputs)), Both(up)(inputs)])
    report = channel_groups(keras.Model(inputs, L.Dense(1)(x)))
    assert "is used in 'both'" in report.kept["up"]


def test_a_model_whose_graph_is_unknown_is_refused() -> None:
    class Own(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ValueError, match="`model` must be a Functional or a built Sequential"):
        channel_groups(Own())
    with pytest.raises(ValueError, match=r"`model` must be a keras\.Model\. Received: model=3"):
        channel_groups(3)


@pytest.mark.parametrize(
    ("width", "is_cut"),
    [pytest.param(9, True, id="wider"), pytest.param(3, False, id="narrower than its filters")],
)
def test_a_bias_that_keras_may_add_along_another_axis_stays(width: int, is_cut: bool) -> None:
    inputs = keras.Input((2, 5, width))
    first = L.Conv2D(6, 1, data_format="channels_first", name="first")
    x = L.Conv2D(2, 1, data_format="channels_first", use_bias=False, name="second")(first(inputs))
    report = channel_groups(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))))
    assert ("first" in report.groups) is is_cut
    assert ("first" in report.whole) is not is_cut


def test_keras_adds_some_biases_along_another_axis() -> None:
    """Why they stay. If this fails, Keras is mended: remove `_OTHER_AXIS`."""
    column = np.array([[1.0], [2.0], [3.0]])
    added = np.asarray(keras.ops.add(np.zeros((5, 3, 3)), column))
    np.testing.assert_array_equal(added[0], np.broadcast_to(column.T, (3, 3)))
