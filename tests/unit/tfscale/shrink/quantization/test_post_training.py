"""Keras's quantization behind one call: what the report says, beside NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfscale.shrink import quantize

DRAW = np.random.default_rng(9)
LAYERS = keras.layers
X = DRAW.normal(size=[200, 8]).astype("float32")
TOKENS = DRAW.integers(0, 50, [16, 6]).astype("int32")


def network() -> keras.Model:
    keras.utils.set_random_seed(2)
    layers = [LAYERS.Dense(32, "relu", name="first"), LAYERS.Dense(3, name="last")]
    return keras.Sequential([keras.Input([8]), *layers])


def decibels(expected: Any, found: Any) -> float:
    error = np.sum((np.asarray(expected, "float64") - found) ** 2)
    return float(10 * np.log10(np.sum(np.asarray(expected, "float64") ** 2) / error))


def by_channel(kernel: Any) -> Any:
    scale = np.abs(kernel).max(axis=0) / 127
    return np.round(kernel / scale) * scale


def by_row(x: Any) -> Any:
    scale = np.abs(x).max(axis=1, keepdims=True) / 127
    return np.round(x / scale) * scale


def test_the_report_is_what_numpy_computes_for_int8() -> None:
    model = network()
    w1, b1, w2, b2 = model.get_weights()
    hidden = np.maximum(X @ w1 + b1, 0)
    outputs = hidden @ w2 + b2
    rounded = np.maximum(by_row(X) @ by_channel(w1) + b1, 0)
    report = quantize(model, "int8", calibration=X, measure=lambda y: float(y.sum())).report
    first, last = report.layers
    assert (first.path, last.path) == (f"{model.name}/first", f"{model.name}/last")
    # Keras adds an epsilon to the scales, so a few numbers are rounded to the other side.
    assert first.own_decibels == pytest.approx(decibels(hidden, rounded), abs=0.1)
    assert first.model_decibels == pytest.approx(decibels(outputs, rounded @ w2 + b2), abs=0.1)
    assert last.own_decibels == last.model_decibels
    assert (first.bytes_before, first.bytes_after) == (4 * (8 * 32 + 32), 8 * 32 + 4 * (32 + 32))
    assert first.measure_change == pytest.approx(
        np.sum(rounded @ w2 + b2) - np.sum(outputs), abs=0.5
    )
    assert report.measure_before == pytest.approx(np.sum(outputs), rel=1e-4)


def test_the_model_is_not_changed_and_the_copy_loads_in_plain_keras(tmp_path: Path) -> None:
    model = network()
    before = model.predict(X, verbose=0)
    smaller = quantize(model, "int8", calibration=X).model
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)
    smaller.save(tmp_path / "smaller.keras")
    loaded = keras.models.load_model(tmp_path / "smaller.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), smaller.predict(X, verbose=0))


@pytest.mark.parametrize("mode", ["int4", "float8"])
def test_layers_that_are_kept_stay_as_they_are(mode: str) -> None:
    model = network()
    smaller = quantize(model, mode, calibration=X, keep=["last"])
    assert [layer.path.rpartition("/")[2] for layer in smaller.report.layers] == ["first"]
    np.testing.assert_array_equal(smaller.model.layers[1].kernel, model.layers[1].kernel)
    assert 5 < smaller.report.model_decibels < 60
    assert "first" in str(smaller.report)


def transformer() -> keras.Model:
    inputs = keras.Input([6], dtype="int32")
    x = LAYERS.Embedding(50, 16, name="table")(inputs)
    for name in ("up", "down"):
        layers = [LAYERS.Dense(32, "relu"), LAYERS.Dense(16)]
        x = keras.Sequential([keras.Input([6, 16]), *layers], name=name)(x)
    return keras.Model(inputs, LAYERS.Dense(50)(x))


@pytest.mark.parametrize("mode", ["gptq", "awq"])
def test_blocks_of_a_transformer_are_quantized_by_tokens(mode: str) -> None:
    model = transformer()
    smaller = quantize(model, mode, calibration=TOKENS, before=["table"], blocks=["up", "down"])
    assert len(smaller.report.layers) == 4
    assert all(10 < layer.own_decibels < 60 for layer in smaller.report.layers)
    assert all(layer.bytes_after < layer.bytes_before / 3 for layer in smaller.report.layers)


@pytest.mark.parametrize(
    ("mode", "arguments", "message"),
    [
        pytest.param("int2", {}, "`mode` must be", id="mode"),
        pytest.param("int8", {"keep": ["middle"]}, "of 0 layers", id="no such layer"),
        pytest.param("int8", {"keep": ["first", "last"]}, "quantizes nothing", id="all kept"),
        pytest.param("int8", {"blocks": ["first"]}, "must be left out", id="blocks"),
        pytest.param("gptq", {}, "rows of tokens", id="floats"),
        pytest.param("int8", {"calibration": X[:0]}, "a row at least", id="no data"),
    ],
)
def test_impossible_arguments_are_refused(
    mode: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(network(), mode, **{"calibration": X, **arguments})


def test_a_transformer_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="`blocks` must name"):
        quantize(transformer(), "awq", calibration=TOKENS)


def test_a_quantized_model_is_not_quantized_again() -> None:
    smaller = quantize(network(), "int8", calibration=X).model
    with pytest.raises(ValueError, match="not quantized yet"):
        quantize(smaller, "int4", calibration=X)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = network()
    weights = model.get_weights()
    weights[0][0] = np.inf
    model.set_weights(weights)
    with pytest.raises(ValueError, match="must have finite weights for quantize"):
        quantize(model, "int8", calibration=X)
