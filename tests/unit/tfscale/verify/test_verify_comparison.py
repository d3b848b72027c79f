from __future__ import annotations

import numpy as np
import pytest

from tfscale.verify.comparison import (
    LayerDifference,
    Quantity,
    common_factor,
    compare_quantities,
    difference,
    layer_differences,
    layer_to_check,
)

ONE = np.array([3.0, 4.0])  # its norm is 5


@pytest.mark.parametrize(
    ("found", "distance"),
    [
        pytest.param([3.0, 4.0], 0.0, id="equal"),
        pytest.param([3.0, 4.5], 0.1, id="a tenth of the norm"),
        pytest.param([3.0, np.nan], np.inf, id="not a number on one side"),
        pytest.param([[3.0, 4.0]], np.inf, id="another shape"),
    ],
)
def test_a_difference_is_relative_to_the_norm(found: list[float], distance: float) -> None:
    assert difference(ONE, np.array(found)) == pytest.approx(distance, rel=1e-5)


def test_equal_overflows_are_not_a_difference() -> None:
    overflowed = np.array([np.inf, np.nan, 1.0])
    assert difference(overflowed, overflowed.copy()) == 0.0
    assert difference(overflowed, np.array([-np.inf, np.nan, 1.0])) == np.inf


def verdict(control: float, found: float, precision: str = "float32") -> str:
    """Verdict on weights: the relative differences of the control and of the strategy."""
    (quantity,) = compare_quantities(
        {"weights/0 d/kernel": ONE},
        {"weights/0 d/kernel": ONE * (1 + control)},
        {"weights/0 d/kernel": ONE * (1 + found)},
        {},
        precision,
    )
    return quantity.verdict


@pytest.mark.parametrize(
    ("control", "found", "expected"),
    [
        pytest.param(0.0, 1e-6, "equal", id="a control that is exact by chance"),
        pytest.param(0.0, 1e-5, "mismatch", id="more than ten times the least floor"),
        pytest.param(1e-4, 9e-4, "equal", id="nine times the control"),
        pytest.param(1e-4, 2e-3, "mismatch", id="twenty times the control"),
        pytest.param(0.1, 0.1, "inconclusive", id="a tenth is not rounding"),
    ],
)
def test_ten_times_the_models_own_floor_is_rounding(
    control: float, found: float, expected: str
) -> None:
    assert verdict(control, found) == expected


def test_float64_has_a_smaller_floor() -> None:
    assert verdict(0.0, 1e-8) == "equal"
    assert verdict(0.0, 1e-8, "float64") == "mismatch"


@pytest.mark.parametrize(
    ("precision", "movement", "found", "expected"),
    [
        pytest.param("float16", 0.1, 3e-4, "equal", id="ten roundings of the change"),
        pytest.param("float16", 0.1, 1e-3, "mismatch", id="more than ten"),
        pytest.param("float16", 0.0, 1e-5, "mismatch", id="weights that did not change"),
        pytest.param("float32", 0.1, 1e-5, "mismatch", id="updates in float32"),
    ],
)
def test_weights_change_by_updates_that_were_rounded_in_half_precision(
    precision: str, movement: float, found: float, expected: str
) -> None:
    weights = {"weights/0 d/kernel": ONE}
    changed = {"weights/0 d/kernel": ONE * (1 + found)}
    (quantity,) = compare_quantities(weights, weights, changed, {}, precision, movement)
    assert quantity.verdict == expected


def test_a_step_too_many_is_never_rounding() -> None:
    steps = {"iterations/0": np.array(20)}
    (quantity,) = compare_quantities(steps, steps, {"iterations/0": np.array(21)}, {}, "float16")
    assert quantity.verdict == "mismatch"


def test_a_result_of_only_one_side_is_a_mismatch_unless_it_is_missing_on_one_device() -> None:
    assert (
        compare_quantities({"loss": ONE}, {"loss": ONE}, {}, {}, "float64")[0].verdict == "mismatch"
    )
    (quantity,) = compare_quantities({}, {}, {}, {"evaluate": "no loss"}, "float64")
    assert (quantity.verdict, quantity.reason) == ("not compared", "no loss")


def rows(*gradients: float) -> list[LayerDifference]:
    return [LayerDifference(name, gradients=g) for name, g in zip("abc", gradients, strict=True)]


@pytest.mark.parametrize(
    ("gradients", "words"),
    [
        ((0.0, 0.1, 0.0), "layer 'b' is the only one whose gradient differs"),
        ((0.1, 0.1, 0.0), "layer 'b', or the next layer 'c': the gradients of the layers"),
        ((0.1, 0.1, 0.1), "the gradients of all layers differ, from 'a' on: check the loss"),
    ],
)
def test_the_wrong_layer_is_where_gradients_begin_to_differ(
    gradients: tuple[float, float, float], words: str
) -> None:
    assert words in layer_to_check(
        rows(*gradients), [Quantity("gradients", "mismatch", floor=1e-10)]
    )


def test_layers_come_in_the_order_of_the_model() -> None:
    expected = {
        "gradients/0 m/second/kernel": ONE,
        "weights/0 m/first/mean": ONE,
        "weights/1 m/second/kernel": ONE,
    }
    found = {**expected, "weights/0 m/first/mean": 1.1 * ONE}
    first, second = layer_differences(expected, found)
    assert (first.layer, second.layer) == ("first", "second")
    assert first.weights == pytest.approx(0.1, rel=1e-5)


def test_a_factor_common_to_all_gradients_is_found() -> None:
    expected = {"gradients/0 a": ONE, "gradients/1 b": 2 * ONE, "gradients/+0 a": ONE}
    half = {name: value / 2 for name, value in expected.items()}
    assert common_factor(expected, {**half, "gradients/+0 a": 7 * ONE}) == pytest.approx(0.5)
    assert common_factor(expected, expected) is None
    assert common_factor(expected, {**half, "gradients/1 b": ONE[::-1]}) is None
