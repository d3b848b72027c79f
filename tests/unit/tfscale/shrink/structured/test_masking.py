"""Which channels are masked, and that all their weights are zero."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.unit.tfscale.shrink.structured.cut_models import residual, with_drawn_weights
from tfscale.shrink import channel_groups, mask_channels

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]
L = keras.layers


def with_scores(**scores: list[float]) -> keras.Model:
    """A chain of Dense layers without biases, with channels of these scores."""
    layers: list[Any] = [keras.Input([1])]
    layers += [L.Dense(len(own), use_bias=False, name=name) for name, own in scores.items()]
    model = keras.Sequential([*layers, L.Dense(1, use_bias=False, name="end")])
    for layer in model.layers:
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    for name, own in scores.items():
        kernel = np.zeros(model.get_layer(name).kernel.shape)
        kernel[0] = own
        model.get_layer(name).kernel.assign(kernel)
    return model


def masked(model: keras.Model) -> dict[str, list[int]]:
    groups = channel_groups(model).groups
    return {name: np.flatnonzero(group.masked()).tolist() for name, group in groups.items()}


def test_the_lowest_scores_of_each_group_are_masked() -> None:
    model = with_scores(up=[3, 1, 4, 2])
    assert mask_channels(model, 0.5) == {"up": 2}
    assert masked(model) == {"up": [1, 3]}
    np.testing.assert_array_equal(np.asarray(model.get_layer("up").kernel), [[3, 0, 4, 0]])


def test_one_channel_of_each_group_stays() -> None:
    model = with_scores(up=[3, 1])
    assert mask_channels(model, 0.99) == {"up": 1}


def test_masked_channels_count_when_more_are_masked() -> None:
    model = with_scores(up=[3, 1, 4, 2])
    mask_channels(model, 0.25)
    assert mask_channels(model, 0.5) == {"up": 2}
    assert masked(model) == {"up": [1, 3]}


def test_global_scores_are_relative_to_the_mean_of_their_group() -> None:
    one, other = L.Dense(4, use_bias=False, name="one"), L.Dense(4, use_bias=False, name="other")
    inputs = keras.Input([1])
    model = keras.Model(
        inputs, L.Dense(1, name="end")(L.Concatenate()([one(inputs), other(inputs)]))
    )
    model.get_layer("end").kernel.assign(np.zeros((8, 1)))
    one.kernel.assign([[1.0, 10.0, 10.0, 19.0]])  # 0.1, 1, 1, 1.9
    other.kernel.assign([[0.02, 0.03, 0.04, 0.31]])  # 0.2, 0.3, 0.4, 3.1
    assert mask_channels(model, 0.5, scope="global") == {"one": 1, "other": 3}


def test_only_named_groups_are_masked_and_others_are_left_alone() -> None:
    model = with_drawn_weights(residual())
    assert mask_channels(model, {"one_in": 0.5}) == {"stem": 0, "one_in": 3, "two_in": 0}
    assert mask_channels(model, 0.5, keep=["st.m"]) == {"stem": 0, "one_in": 3, "two_in": 3}
    assert mask_channels(model, 0.0, scope="global") == {"stem": 0, "one_in": 3, "two_in": 3}


def test_the_first_expression_that_matches_a_group_counts() -> None:
    model = with_drawn_weights(residual())
    expected = {"stem": 0, "one_in": 2, "two_in": 3}
    assert mask_channels(model, {"one.*": 1 / 3, ".*_in": 0.5}) == expected


def test_statistics_are_not_masked() -> None:
    model = with_drawn_weights(residual())
    before = [np.asarray(w) for w in model.weights if "moving" in w.name]
    mask_channels(model, 0.5)
    for value, weight in zip(before, (w for w in model.weights if "moving" in w.name), strict=True):
        np.testing.assert_array_equal(value, np.asarray(weight))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 1.0}, r"`fraction` must be a number in \[0, 1\)"),
        ({"fraction": -0.1}, r"`fraction` must be a number in \[0, 1\)"),
        ({"fraction": float("nan")}, r"`fraction` must be a number in \[0, 1\)"),
        ({"fraction": True}, r"`fraction` must be a number in \[0, 1\)"),
        ({"fraction": "half"}, r"`fraction` must be a number in \[0, 1\)"),
        ({"fraction": {"stm": 0.5}}, "`fraction` must have regular .*'stm'.*stem, one_in, two_in"),
        ({"fraction": 0.5, "keep": ["stm"]}, "`keep` must have regular expressions"),
        ({"fraction": 0.5, "keep": ["("]}, "`keep` must have regular expressions"),
        ({"fraction": 0.5, "keep": [3]}, "`keep` must have regular expressions"),
        ({"fraction": 0.5, "keep": "stem"}, "`keep` must be"),
        ({"fraction": 0.5, "scope": "layer"}, "`scope` must be one of"),
        ({"fraction": {"stem": 0.5}, "scope": "global"}, "`fraction` must be one number"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask_channels(residual(), **arguments)


def test_a_model_of_which_nothing_can_go_is_refused_with_the_reasons() -> None:
    model = keras.Sequential([keras.Input([2]), L.Dense(3, name="only")])
    with pytest.raises(
        ValueError, match=r"must have channels that can go\..*an output of the model"
    ):
        mask_channels(model, 0.5)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = with_scores(up=[3, np.nan, 4, 2])
    with pytest.raises(ValueError, match=r"finite weights for mask_channels.*up/kernel"):
        mask_channels(model, 0.5)
