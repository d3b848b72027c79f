"""Integer files compute, in LiteRT, what the quantization-aware model predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tfscale.shrink import FakeQuantize, integer_litert, quantization_aware

DRAW = np.random.default_rng(3)
LAYERS = keras.layers
ROWS = 256


def images() -> keras.Model:
    """Every layer of an image network that is part of another's operation, and a residual."""
    inputs = keras.Input([8, 8, 3])
    x = LAYERS.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    x = LAYERS.ReLU()(LAYERS.BatchNormalization()(x))
    y = LAYERS.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    y = LAYERS.ReLU(6)(LAYERS.BatchNormalization(scale=False)(y))
    y = LAYERS.BatchNormalization()(LAYERS.Conv2D(8, 1)(y))
    x = LAYERS.ReLU()(LAYERS.Add()([x, y]))
    x = LAYERS.AveragePooling2D(2)(LAYERS.Concatenate()([x, y]))
    x = LAYERS.Conv2D(8, 3, strides=2, groups=2, activation="tanh")(x)
    x = LAYERS.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, LAYERS.Dense(10, activation="softmax")(x))


def texts() -> keras.Model:
    """Embedding, convolutions along a line, einsum, and floats in between."""
    inputs = keras.Input([16], dtype="int32")
    x = LAYERS.Embedding(50, 12)(inputs)
    x = LAYERS.Conv1D(16, 3, padding="causal", dilation_rate=2, activation="gelu")(x)
    x = LAYERS.Conv1D(16, 3, strides=2, padding="same", activation="relu")(x)
    x = LAYERS.LayerNormalization()(x)
    x = LAYERS.EinsumDense("abc,cde->abde", [8, 2, 6], bias_axes="de")(x)
    x = LAYERS.EinsumDense("abde,def->abf", [8, 9], activation="sigmoid")(x)
    x = LAYERS.Dense(7)(x) + LAYERS.Dense(7)(x)
    return keras.Model(inputs, LAYERS.Dense(4)(LAYERS.Flatten()(x)))


def numbers() -> keras.Model:
    """A scaled input, a normalized product, and an activation with floats."""
    layers = [LAYERS.Rescaling(0.5), LAYERS.Dense(16), LAYERS.BatchNormalization()]
    layers += [LAYERS.Activation("relu"), LAYERS.Dropout(0.3), LAYERS.Dense(3, activation="silu")]
    layers += [LAYERS.Dense(5)]
    return keras.Sequential([keras.Input([20]), *layers])


CASES = [
    pytest.param(images, lambda: DRAW.normal(size=[ROWS, 8, 8, 3]).astype("f"), id="images"),
    pytest.param(texts, lambda: DRAW.integers(0, 50, [ROWS, 16]).astype("int32"), id="texts"),
    pytest.param(numbers, lambda: DRAW.normal(size=[ROWS, 20]).astype("f"), id="numbers"),
]


def aware_with_random_statistics(build: Callable[[], keras.Model], x: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = build()
    for layer in model.layers:
        if isinstance(layer, LAYERS.BatchNormalization):
            for weight in layer.weights:
                value = DRAW.uniform(0.5, 1.5, weight.shape)
                is_variance = weight is layer.moving_variance
                weight.assign(value if is_variance else value * DRAW.choice([-1, 1], weight.shape))
    return quantization_aware(model, calibration=x)


def run_file(content: bytes, x: Any) -> tuple[Any, dict[str, Any]]:
    """Returns what LiteRT computes, and its description of the output."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_content=content)
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], x.shape)
    interpreter.allocate_tensors()
    if given["dtype"] == np.int8:
        scale, zero = given["quantization"]
        x = np.clip(np.round(x / scale + zero), -128, 127).astype("int8")
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    return interpreter.get_tensor(output["index"]), output


def last_scale(model: keras.Model) -> float:
    ranges = [layer for layer in model.layers if isinstance(layer, FakeQuantize)]
    return float(ranges[-1].grid.scale)


@pytest.mark.parametrize(("build", "inputs"), CASES)
def test_integers_are_the_rounded_numbers_or_their_neighbours(build: Any, inputs: Any) -> None:
    x = inputs()
    aware = aware_with_random_statistics(build, x)
    outputs, _ = run_file(integer_litert(aware), x)
    steps = np.abs(outputs - aware.predict(x, verbose=0)) / last_scale(aware)
    assert np.mean(steps < 1.01) >= 0.99
    assert np.max(steps) < 3.01


def test_inputs_and_outputs_can_be_integers() -> None:
    x = DRAW.normal(size=[ROWS, 20]).astype("f")
    aware = aware_with_random_statistics(numbers, x)
    outputs, output = run_file(integer_litert(aware, inputs="int8"), x)
    assert outputs.dtype == np.int8
    scale, zero = output["quantization"]
    expected = np.round(aware.predict(x, verbose=0) / scale + zero)
    assert np.max(np.abs(outputs - expected)) <= 3


@pytest.mark.parametrize("weight", [0.0, 1e-5, 1e-7, 1e-12])
def test_a_channel_of_small_weights_has_its_bias(weight: float) -> None:
    model = keras.Sequential([keras.Input([4]), LAYERS.Dense(2)])
    model.set_weights([np.array([[1.0, weight]] * 4), np.array([0.5, -3.0])])
    x = DRAW.normal(size=[ROWS, 4]).astype("f")
    outputs, _ = run_file(integer_litert(quantization_aware(model, calibration=x)), x)
    np.testing.assert_allclose(outputs[:, 1], -3.0, atol=0.05)


def test_a_model_of_another_kind_is_refused() -> None:
    model = keras.Sequential([keras.Input([4]), LAYERS.Dense(2)])
    with pytest.raises(ValueError, match="must be made by quantization_aware"):
        integer_litert(model)


def test_a_model_in_half_precision_is_refused() -> None:
    model = keras.Sequential([keras.Input([4]), LAYERS.Dense(2, dtype="mixed_bfloat16")])
    aware = quantization_aware(model, calibration=np.ones([4, 4], "f"))
    with pytest.raises(ValueError, match="must compute in float32"):
        integer_litert(aware)
