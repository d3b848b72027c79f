"""The layers whose weights become 8-bit integers: what they compute, in training and in a file.

In a file a matrix product is a 1x1 convolution: the converter of TensorFlow 2.21 gives a product
one scale for the whole matrix, and a convolution one for each output channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

_LAYERS = keras.layers


@dataclass(frozen=True)
class WeightedKind:
    """How the layers of one class use their weights.

    Attributes:
        weights: Returns the weights of a layer: of its kernel or table, with any LoRA added.
        axes: Returns the axes that one scale spans.
        product: Computes the output from layer, input and weights, without bias.
        in_file: The same in operations that the converter makes integer. Takes NumPy weights, and
            the function that rounds them, whose channels are along the last axis.
    """

    weights: Callable[[Any], Any]
    axes: Callable[[Any], tuple[int, ...]]
    product: Callable[[Any, Any, Any], Any]
    in_file: Callable[[Any, Any, Any, Callable[[Any], Any]], Any]


def kind_of(layer: Any) -> WeightedKind | None:
    """Returns how a layer uses its weights, or None if they stay floats.

    Args:
        layer: A built layer of Keras. A subclass is another layer, which may compute otherwise.
    """
    kind = _KINDS.get(type(layer))
    return kind if kind is not None and _is_supported(layer) else None


def is_unknown_product(layer: Any) -> bool:
    """Tells whether a layer is one multiplication by weights of which no `kind_of` is known.

    The converter makes such an operation integer too if the tensors around it are, with weights
    that training did not round.
    """
    return isinstance(layer, _PRODUCTS) and kind_of(layer) is None


def with_bias(layer: Any, product: Any) -> Any:
    """Adds the bias of a layer, along the last axes."""
    bias = getattr(layer, "bias", None)
    return product if bias is None else ops.add(product, ops.cast(bias, product.dtype))


def _is_supported(layer: Any) -> bool:
    if isinstance(layer, _LAYERS.EinsumDense):
        return _is_plain_product(layer)
    if isinstance(layer, _LAYERS.Conv1D | _LAYERS.Conv2D):
        return bool(layer.data_format == "channels_last")
    if isinstance(layer, _LAYERS.DepthwiseConv2D):
        is_square = len({*layer.strides}) == 1  # of TensorFlow's operation
        return bool(layer.data_format == "channels_last" and is_square)
    return True


def _einsum_labels(layer: Any) -> tuple[str, str, str]:
    given, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = given.split(",")
    return inputs.replace("...", "."), kernel, output.replace("...", ".")


def _is_plain_product(layer: Any) -> bool:
    """Tells whether an EinsumDense multiplies rows of inputs by one matrix, as Dense does."""
    inputs, kernel, output = _einsum_labels(layer)
    summed = "".join(label for label in kernel if label in inputs)
    free = kernel[len(summed) :]
    rows = inputs[: len(inputs) - len(summed)]
    return bool(
        summed
        and kernel == summed + free
        and inputs == rows + summed
        and output == rows + free
        and _bias_is_last(layer)
    )


def _bias_is_last(layer: Any) -> bool:
    bias = layer.bias
    kernel_shape, free = layer.kernel.shape, _free_axes(layer)
    return bias is None or tuple(bias.shape) == tuple(kernel_shape[len(kernel_shape) - free :])


def _free_axes(layer: Any) -> int:
    inputs, kernel, _ = _einsum_labels(layer)
    return sum(label not in inputs for label in kernel)


def _matrix_in_file(layer: Any, x: Any, weights: Any, rounded: Callable[[Any], Any]) -> Any:
    """A product of rows and a matrix: axes at the end of the input, and those after them."""
    free = _free_axes(layer) if isinstance(layer, _LAYERS.EinsumDense) else 1
    columns = weights.shape[len(weights.shape) - free :]
    summed = len(weights.shape) - free
    matrix = np.reshape(weights, [-1, int(np.prod(columns))])
    rows = x.shape[: x.shape.rank - summed]
    flat = tf.reshape(x, [-1, 1, 1, matrix.shape[0]])
    product = tf.nn.conv2d(flat, rounded(matrix[None, None]), 1, "VALID")
    lengths = [-1 if size is None else size for size in rows]
    if lengths.count(-1) > 1:
        sizes = tf.shape(x)
        lengths = [sizes[i] if size == -1 else size for i, size in enumerate(lengths)]
    return tf.reshape(product, [*lengths, *columns])


def _convolution_in_file(layer: Any, x: Any, weights: Any, rounded: Callable[[Any], Any]) -> Any:
    if isinstance(layer, _LAYERS.Conv2D):
        return tf.nn.conv2d(
            x, rounded(weights), layer.strides, layer.padding.upper(), dilations=layer.dilation_rate
        )
    padding = layer.padding.upper()
    if layer.padding == "causal":
        before = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        x, padding = tf.pad(x, [[0, 0], [before, 0], [0, 0]]), "VALID"
    line = tf.nn.conv2d(
        tf.expand_dims(x, 1),
        rounded(weights[None]),
        [1, layer.strides[0]],
        padding,
        dilations=[1, layer.dilation_rate[0]],
    )
    return tf.squeeze(line, 1)


def _convolution(layer: Any, x: Any, weights: Any) -> Any:
    padding = layer.padding
    if padding == "causal":
        before = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        x, padding = ops.pad(x, [[0, 0], [before, 0], [0, 0]]), "valid"
    return ops.conv(
        x,
        weights,
        strides=list(layer.strides),
        padding=padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )


def _depthwise(layer: Any, x: Any, weights: Any) -> Any:
    return ops.depthwise_conv(
        x,
        weights,
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )


def _depthwise_in_file(layer: Any, x: Any, weights: Any, rounded: Callable[[Any], Any]) -> Any:
    flat = rounded(np.reshape(weights, [*weights.shape[:2], -1]))
    return tf.nn.depthwise_conv2d(
        x,
        tf.reshape(flat, weights.shape),
        [1, *layer.strides, 1],
        layer.padding.upper(),
        dilations=layer.dilation_rate,
    )


def _rows(layer: Any, x: Any, weights: Any) -> Any:
    return ops.take(weights, ops.cast(x, "int32"), axis=0)


_MATRIX = WeightedKind(
    lambda layer: layer.kernel,
    lambda layer: (0,),
    lambda layer, x, weights: ops.matmul(x, weights),
    _matrix_in_file,
)
_EINSUM = WeightedKind(
    lambda layer: layer.kernel,
    lambda layer: tuple(range(len(layer.kernel.shape) - _free_axes(layer))),
    lambda layer, x, weights: ops.einsum(layer.equation, x, weights),
    _matrix_in_file,
)
_CONVOLUTION = WeightedKind(
    lambda layer: layer.kernel,
    lambda layer: tuple(range(len(layer.kernel.shape) - 1)),
    _convolution,
    _convolution_in_file,
)
_DEPTHWISE = WeightedKind(
    lambda layer: layer.kernel, lambda layer: (0, 1), _depthwise, _depthwise_in_file
)
_TABLE = WeightedKind(
    lambda layer: layer.embeddings,
    lambda layer: (0, 1),  # LiteRT looks rows up in a table of one scale
    _rows,
    lambda layer, x, weights, rounded: tf.gather(rounded(weights), tf.cast(x, tf.int32)),
)
_KINDS: dict[type, WeightedKind] = {
    _LAYERS.Dense: _MATRIX,
    _LAYERS.EinsumDense: _EINSUM,
    _LAYERS.Conv1D: _CONVOLUTION,
    _LAYERS.Conv2D: _CONVOLUTION,
    _LAYERS.DepthwiseConv2D: _DEPTHWISE,
    _LAYERS.Embedding: _TABLE,
}
_PRODUCTS = (
    *(_LAYERS.Dense, _LAYERS.EinsumDense, _LAYERS.PReLU, _LAYERS.Conv1D, _LAYERS.Conv2D),
    *(_LAYERS.Conv3D, _LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose, _LAYERS.Conv3DTranspose),
    *(_LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D),
    *(_LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D),
)
