"""Writes a quantization-aware model as a LiteRT file that computes with 8-bit integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import all_layers, graph_of, nodes_in_order, one_of, through_graph
from tfscale.preparation.model_copy import value_of
from tfscale.shrink.litert_converter import converted
from tfscale.shrink.quantization.fake_quantize import FakeQuantize
from tfscale.shrink.quantization.grids import rounded_weights
from tfscale.shrink.quantization.rounded_layer import RoundedWeights
from tfscale.shrink.quantization.rounding_plan import RoundingPlan


def integer_litert(model: keras.Model, *, inputs: str = "float32") -> bytes:
    """Returns a quantization-aware model as a LiteRT file that computes with 8-bit integers.

    The file computes what `model` predicts, but for the rounding of each operation's result: nearly
    all outputs are the same number of the last layer's grid, or its neighbour. A
    BatchNormalization after a convolution or matrix product is part of its weights.

    Args:
        model: From `quantization_aware`, trained or not. It must compute in float32.
        inputs: "float32", or "int8" for inputs and outputs that are integers too, as a device
            without floats needs them. Their scales are in the file.

    Returns:
        The contents of a `.tflite` file, with a dynamic batch size.

    Raises:
        ValueError: If the model is not quantization-aware, computes in another type, or has an
            operation that LiteRT does not have.

    Example:
        >>> model = keras.Sequential([keras.Input([4]), keras.layers.Dense(2)])
        >>> aware = tfscale.shrink.quantization_aware(model, calibration=np.ones([8, 4], "float32"))
        >>> integer_litert(aware)[4:8]
        b'TFL3'

    Source: LiteRT 8-bit quantization specification.
    """
    one_of("inputs", inputs, ("float32", "int8"))
    _check(model)
    graph = graph_of(model)
    function = tf.function(_file_function(model, graph), autograph=False)
    specs = [tf.TensorSpec(each.shape, each.dtype, name=each.name) for each in graph.inputs]
    concrete = function.get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if inputs == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converted(converter, model.name)


def _check(model: Any) -> None:
    layers = all_layers(model) if isinstance(model, keras.Model) else []
    if not any(isinstance(layer, FakeQuantize | RoundedWeights) for layer in layers):
        raise ValueError(
            "`model` must be made by quantization_aware, whose ranges the file needs. Received: "
            f"{model!r}. Pass tfscale.shrink.quantization_aware(model, calibration=...)."
        )
    others = {
        f"{layer.name} ({layer.compute_dtype})"
        for layer in layers
        if layer.compute_dtype not in ("float32", None)
    }
    if others:
        raise ValueError(
            "`model` must compute in float32, from which the file is converted. Received: "
            f"{', '.join(sorted(others)[:5])}. Make a copy with tfscale.prepare(model, strategy, "
            'precision="float32") first.'
        )


_LARGEST_BIAS = 2.0**30
"""A file has 32 bits for a bias, in units of the input's scale times that of the weights."""


@dataclass(frozen=True)
class _Constants:
    """What a file contains of a layer.

    Attributes:
        weights: Rounded.
        bias: Or None.
        smallest: By channel, the smallest largest magnitude of its weights with which the bias is
            in range. Weights that are smaller do not change the sum that begins with this bias.
    """

    weights: np.ndarray[Any, Any]
    bias: Any
    smallest: Any


def _file_function(model: keras.Model, graph: Any) -> Callable[..., Any]:
    """Returns the function of a file: constants for weights, and the converter's own rounding."""
    plan, nodes = RoundingPlan(graph), nodes_in_order(graph)
    constants: dict[int, _Constants] = {}
    left_out: set[int] = set()
    for node in nodes:
        if isinstance(node.operation, RoundedWeights):
            norm = plan.folded_after(node)
            before = plan.range_before(node)
            scale = None if before is None else before.grid.scale
            constants[id(node)] = _constants(node.operation, norm and norm.operation, scale)
            left_out.add(id(norm))
    grids = {id(n): n.operation.grid for n in nodes if isinstance(n.operation, FakeQuantize)}

    def call(node: Any, *args: Any, **kwargs: Any) -> Any:
        if id(node) in grids:
            grid = grids[id(node)]
            return tf.quantization.fake_quant_with_min_max_args(args[0], grid.lowest, grid.highest)
        if id(node) in constants:
            return _in_file(node.operation, args[0], constants[id(node)])
        return args[0] if id(node) in left_out else node.operation(*args, **kwargs)

    values = [(variable, tf.constant(value_of(variable))) for variable in model.variables]

    def compute(*inputs: Any) -> Any:
        with keras.StatelessScope(state_mapping=values):  # constants, of layers with floats too
            return through_graph(graph, inputs, call)

    return compute


def _constants(rounded: RoundedWeights, norm: Any, input_scale: float | None) -> _Constants:
    """Rounds the weights of a layer, and makes the BatchNormalization after it part of them."""
    layer, axes = rounded.layer, rounded.kind.axes(rounded.layer)
    weights = tf.convert_to_tensor(rounded.kind.weights(layer))
    weights = rounded_weights(tf.cast(weights, tf.float32), axes).numpy()
    bias = None if getattr(layer, "bias", None) is None else value_of(layer.bias)
    channels = [size for i, size in enumerate(weights.shape) if i not in axes]
    if norm is not None:
        factor, offset = _scaling_of(norm)
        bias = offset if bias is None else bias * factor + offset
        weights = weights * np.broadcast_to(_shaped(factor, channels), channels)
    smallest = None
    if bias is not None and input_scale is not None:
        by_channel = np.broadcast_to(_shaped(np.abs(bias), channels), channels).ravel()
        smallest = 127 * by_channel / (input_scale * _LARGEST_BIAS)
    return _Constants(weights.astype("float32"), bias, smallest)


def _in_file(rounded: RoundedWeights, x: Any, constants: _Constants) -> Any:
    kind, weights = rounded.kind, constants.weights
    has_one_scale = len(kind.axes(rounded.layer)) == weights.ndim
    rounding = _rounded_table if has_one_scale else _rounded_channels(constants.smallest)
    product = kind.in_file(rounded.layer, x, weights, rounding)
    bias = constants.bias
    return product if bias is None else product + tf.constant(bias, tf.float32)


def _shaped(factor: Any, channels: list[int]) -> Any:
    """Gives a factor for each of the last channels the shape of all channels."""
    is_last = factor.size == channels[-1]
    return factor if is_last else factor.reshape(channels)


def _scaling_of(norm: Any) -> tuple[Any, Any]:
    """Returns factor and offset that a BatchNormalization applies to each channel."""
    deviation = np.sqrt(value_of(norm.moving_variance).astype("float64") + norm.epsilon)
    factor = (1.0 if norm.gamma is None else value_of(norm.gamma)) / deviation
    beta = 0.0 if norm.beta is None else value_of(norm.beta)
    return factor, beta - value_of(norm.moving_mean) * factor


def _rounded_channels(smallest: Any) -> Callable[[Any], Any]:
    """Returns what rounds weights in the converter's operation, with a scale by channel.

    Args:
        smallest: See `_Constants`.
    """

    def rounded(weights: Any) -> Any:
        largest = np.abs(weights).reshape(-1, weights.shape[-1]).max(axis=0)
        largest = np.where(largest > 0, largest, 1.0)
        if smallest is not None:
            largest = np.maximum(largest, smallest)
        largest = largest.astype("float32")
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            tf.constant(weights), -largest, largest, narrow_range=True
        )

    return rounded


def _rounded_table(weights: Any) -> Any:
    largest = float(np.abs(weights).max()) or 1.0
    return tf.quantization.fake_quant_with_min_max_args(
        tf.constant(weights), -largest, largest, narrow_range=True
    )
