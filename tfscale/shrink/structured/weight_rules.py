"""What layers with weights do to channels.

A layer that mixes channels, such as Dense, makes new ones. A layer that changes each channel by
itself, such as BatchNormalization, passes its labels on and ties its weights to them.
"""

from __future__ import annotations

import dataclasses
import string
from typing import Any

import keras
import numpy as np

from tfscale.shrink.structured.channels import Labels, Numbers
from tfscale.shrink.structured.tracing import Call, Role, Rule

_TREATS_CHANNELS_SEPARATELY = [
    getattr(keras.activations, name)
    for name in (
        *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu"),
        *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "mish", "relu", "relu6", "selu"),
        *("sigmoid", "silu", "soft_shrink", "softplus", "softsign", "sparse_plus"),
        *("sparse_sigmoid", "squareplus", "tanh", "tanh_shrink", "threshold"),
    )
]
"""Not softmax, for example, where one channel changes the others."""


def activated(call: Call, labels: Labels, activation: Any) -> Labels:
    """Returns the labels of what an activation returns."""
    if activation is None or activation in _TREATS_CHANNELS_SEPARATELY:
        return labels
    name = getattr(activation, "__name__", type(activation).__name__)
    for along_axis in labels:
        call.keep(along_axis, f"has the activation {name!r}, which may mix channels")
    sizes = zip(labels, call.output_shape, strict=True)
    return tuple(n if n is not None and len(n) == size else None for n, size in sizes)


def replaced(labels: Labels, axis: int, numbers: Numbers | None) -> Labels:
    """Returns labels with others along one axis."""
    changed = list(labels)
    changed[axis] = numbers
    return tuple(changed)


def channel_axis(layer: Any) -> int:
    """Returns the axis of channels of a layer for images or sequences."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


def only_channels(call: Call, axis: int) -> Labels:
    """Returns the input's labels along one axis; a layer that moves along the others keeps those.

    Args:
        call: Of the layer.
        axis: That of its channels.
    """
    for number, labels in enumerate(call.input):
        if number != axis % len(call.input):
            call.keep(labels, "moves values along an axis of channels")
    return replaced((None,) * len(call.input), axis, call.input[axis])


def _dense(call: Call) -> list[Labels]:
    layer = call.operation
    call.tie(layer.kernel, 0, "reads", call.input[-1])
    made = call.along(layer.kernel, 1, "makes")
    call.tie(layer.bias, 0, "follows", made)
    call.resize("units", made)
    return [activated(call, replaced(call.input, -1, made), layer.activation)]


_OTHER_AXIS = "has a bias that Keras may add along another axis than the channels"
"""On TensorFlow, keras.ops.add takes an argument with one axis of more than one position for a bias
along the last axis, or the second, if the sizes agree (keras-team/keras#20386): a [n, 1] is added
to [batch, n, n] as if it were [1, n]. A cut changes sizes, and so could change the axis."""


def _may_add_elsewhere(call: Call) -> bool:
    """Tells whether a convolution with channels first could add its bias along its last axis."""
    layer = call.operation
    if channel_axis(layer) == -1 or layer.bias is None:
        return False
    last = call.output_shape[-1]
    return last is None or last <= layer.bias.shape[0]


def _convolution(read: int, made: int) -> Rule:
    """The rule for a convolution; `read` and `made` are axes of its kernel."""

    def rule(call: Call) -> list[Labels]:
        layer = call.operation
        axis = channel_axis(layer)
        if _may_add_elsewhere(call):
            return call.leave_whole(_OTHER_AXIS)
        if getattr(layer, "groups", 1) == call.input_shape[axis] != 1:
            return _one_by_one(call, axis)
        if getattr(layer, "groups", 1) > 1:
            return call.leave_whole("is a convolution in groups of several channels")
        labels = only_channels(call, axis)
        call.tie(layer.kernel, read, "reads", labels[axis])
        numbers = call.along(layer.kernel, made, "makes")
        call.tie(layer.bias, 0, "follows", numbers)
        call.resize("filters", numbers)
        return [activated(call, replaced(labels, axis, numbers), layer.activation)]

    return rule


def _one_by_one(call: Call, axis: int) -> list[Labels]:
    """A convolution with a group for each channel, which is a depthwise one."""
    layer = call.operation
    labels = only_channels(call, axis)
    numbers = labels[axis]
    if numbers is not None:
        call.resize("groups", numbers)
        numbers = np.repeat(numbers, layer.filters // layer.groups)
        call.resize("filters", numbers)
    call.tie(layer.kernel, -1, "follows", numbers)
    call.tie(layer.bias, 0, "follows", numbers)
    return [activated(call, replaced(labels, axis, numbers), layer.activation)]


def _multiplied(call: Call, kernel: Any, labels: Numbers | None) -> Numbers | None:
    """Ties a depthwise kernel; returns the labels of the channels that it computes, in order."""
    call.tie(kernel, -2, "follows", labels)
    return None if labels is None else np.repeat(labels, kernel.shape[-1])


def _depthwise(call: Call) -> list[Labels]:
    layer = call.operation
    if _may_add_elsewhere(call):
        return call.leave_whole(_OTHER_AXIS)
    axis = channel_axis(layer)
    labels = only_channels(call, axis)
    numbers = _multiplied(call, layer.kernel, labels[axis])
    call.tie(layer.bias, 0, "follows", numbers)
    return [activated(call, replaced(labels, axis, numbers), layer.activation)]


def _separable(call: Call) -> list[Labels]:
    layer = call.operation
    if _may_add_elsewhere(call):
        return call.leave_whole(_OTHER_AXIS)
    axis = channel_axis(layer)
    labels = only_channels(call, axis)
    between = _multiplied(call, layer.depthwise_kernel, labels[axis])
    call.tie(layer.pointwise_kernel, -2, "reads", between)
    made = call.along(layer.pointwise_kernel, -1, "makes")
    call.tie(layer.bias, 0, "follows", made)
    call.resize("filters", made)
    return [activated(call, replaced(labels, axis, made), layer.activation)]


def _embedding(call: Call) -> list[Labels]:
    layer = call.operation
    for labels in call.input:
        call.keep(labels, "looks up whole rows")
    made = call.along(layer.embeddings, 1, "makes")
    call.resize("output_dim", made)
    return [(*(None for _ in call.input), made)]


def _batch_normalization(call: Call) -> list[Labels]:
    layer = call.operation
    if len(call.inputs) > 1:
        return call.leave_whole("is called with a mask")
    labels = call.input[layer.axis]
    call.tie(layer.moving_mean, 0, "statistics", labels)
    call.tie(layer.moving_variance, 0, "statistics", labels)
    call.tie(layer.gamma, 0, "follows", labels)
    call.tie(layer.beta, 0, "follows", labels)
    return [call.input]


def _prelu(call: Call) -> list[Labels]:
    layer = call.operation
    shared = layer.shared_axes or ()
    for axis, labels in enumerate(call.input[1:], 1):
        if labels is not None and axis not in shared:
            call.tie(layer.alpha, axis - 1, "follows", labels)
    return [call.input]


def _einsum_dense(call: Call) -> list[Labels]:
    layer = call.operation
    if layer.equation.partition(",")[0].endswith("..."):
        return call.leave_whole("has an equation that ends in `...`")
    shape: tuple[int, ...] = () if layer.bias is None else tuple(layer.bias.shape)
    if len(shape) > 1 and shape[-1] == 1:
        return call.leave_whole(_OTHER_AXIS)
    labels = _einsum(call, layer, call.input)
    if len(shape) > 1 and labels[-1] is not None:
        call.keep(labels[-1][:2], _OTHER_AXIS)  # with one channel the bias would be a vector
    given = layer.partial_output_shape
    last = zip(given, labels[len(labels) - len(given) :], strict=True)
    sizes = tuple(size if size is None or n is None else n for size, n in last)
    call.resize("output_shape", sizes)
    return [activated(call, labels, layer.activation)]


def _einsum(call: Call, layer: Any, labels: Labels, *, last_stays: bool = False) -> Labels:
    """Ties the weights of an EinsumDense, and returns the labels of what it computes.

    Args:
        call: Of the layer, or of one that has it inside.
        layer: The EinsumDense. Its equation has dots only in front.
        labels: Those of its input.
        last_stays: Whether the last axis of the output stays whole.
    """
    read, kernel, written = layer.equation.replace("->", ",").replace(" ", "").split(",")
    spare = string.ascii_uppercase[: len(labels) - len(read.replace("...", ""))]
    read, written = (part.replace("...", spare) for part in (read, written))
    of_input = dict(zip(read, labels, strict=True))
    of_output = {letter: of_input.get(letter) for letter in written}
    for axis, letter in enumerate(kernel):
        if last_stays and letter == written[-1]:
            of_output[letter] = None
        elif letter not in read:
            of_output[letter] = call.along(layer.kernel, axis, "makes")
        else:
            role: Role = "follows" if letter in written else "reads"
            call.tie(layer.kernel, axis, role, of_input[letter])
    for letter in set(read) - set(kernel) - set(written):
        call.keep(of_input[letter], "sums over channels")
    if layer.bias is not None:
        for axis, letter in enumerate(written[len(written) - len(layer.bias.shape) :]):
            if letter in layer.bias_axes and of_output[letter] is not None:
                call.tie(layer.bias, axis, "follows", of_output[letter])
    return tuple(of_output[letter] for letter in written)


def _attention(call: Call) -> list[Labels]:
    """MultiHeadAttention, whose channels are heads, and the values that its output has."""
    layer = call.operation
    config = layer.get_config()
    if config.get("use_gate"):
        return call.leave_whole("is gated attention")
    if config["use_bias"] and 1 in (layer.key_dim, layer.value_dim):
        return call.leave_whole(_OTHER_AXIS)
    names = ("query", "value", "key")
    arguments = dict(zip(names, call.node.arguments.args, strict=False))
    arguments.update(call.node.arguments.kwargs)
    tensors = {name: arguments.get(name) for name in names}
    if tensors["key"] is None:
        tensors["key"] = tensors["value"]
    labels = {name: call.labels[id(tensor)] for name, tensor in tensors.items()}
    read = {id(tensor) for tensor in tensors.values()}
    for tensor in call.node.input_tensors:  # also masks
        for numbers in call.labels[id(tensor)][: -1 if id(tensor) in read else None]:
            call.keep(numbers, "attends along an axis of channels")
    inside = dataclasses.replace(call, name=f"{call.name}/heads")
    projections = (layer.query_dense, layer.key_dense, layer.value_dense)
    query, key, value = (
        _einsum(inside, dense, labels[name], last_stays=True)
        for name, dense in zip(names, projections, strict=True)
    )
    heads = query[-2]
    for other in (key[-2], value[-2]):
        call.trace.channels.tie(heads, other, "heads")
    output = _einsum(call, layer.output_dense, query)
    call.resize("num_heads", heads)
    call.resize("output_shape", output[len(query) - 2 :])
    scores = [(None, heads, *(None,) * (len(t.shape) - 2)) for t in call.node.outputs[1:]]
    return [output, *scores]


WEIGHT_RULES: dict[type, Rule] = {
    keras.layers.Dense: _dense,
    keras.layers.Conv1D: _convolution(-2, -1),
    keras.layers.Conv2D: _convolution(-2, -1),
    keras.layers.Conv3D: _convolution(-2, -1),
    keras.layers.Conv1DTranspose: _convolution(-1, -2),
    keras.layers.Conv2DTranspose: _convolution(-1, -2),
    keras.layers.Conv3DTranspose: _convolution(-1, -2),
    keras.layers.DepthwiseConv1D: _depthwise,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.SeparableConv1D: _separable,
    keras.layers.SeparableConv2D: _separable,
    keras.layers.EinsumDense: _einsum_dense,
    keras.layers.Embedding: _embedding,
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.PReLU: _prelu,
    keras.layers.MultiHeadAttention: _attention,
}
