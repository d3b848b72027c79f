"""What layers and operations without weights do to channels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfscale.shrink.structured.channels import Labels, Numbers
from tfscale.shrink.structured.tracing import Call, Rule
from tfscale.shrink.structured.weight_rules import (
    activated,
    channel_axis,
    only_channels,
    replaced,
)


def _unchanged(call: Call) -> list[Labels]:
    return [call.input]


def _activation(call: Call) -> list[Labels]:
    return [activated(call, call.input, call.operation.activation)]


def _rescaling(call: Call) -> list[Labels]:
    if np.ndim(call.operation.scale) or np.ndim(call.operation.offset):
        return call.leave_whole("scales channels by numbers of its config")
    return [call.input]


def _along_space(call: Call) -> list[Labels]:
    """Pooling, padding and the like, which do the same to each channel."""
    return [only_channels(call, channel_axis(call.operation))]


def _global_pooling(call: Call) -> list[Labels]:
    axis = channel_axis(call.operation)
    labels = only_channels(call, axis)
    return [labels if call.operation.keepdims else (None, labels[axis])]


def _mixing(call: Call) -> list[Labels]:
    """Normalizations and softmax: they divide by what they measure over all channels."""
    for labels in call.inputs:
        for numbers in labels:
            call.keep(numbers, f"computes over all channels, as {_kind(call)}")
    return [call.input]


def _elementwise(call: Call) -> list[Labels]:
    """Sums, products and the like of tensors, whose shapes are broadcast."""
    shapes = [tuple(tensor.shape) for tensor in call.node.input_tensors]
    found: list[Numbers | None] = []
    for back in range(1, len(call.output_shape) + 1):
        size = call.output_shape[-back]
        present = [
            (labels[-back], shape[-back])
            for labels, shape in zip(call.inputs, shapes, strict=True)
            if back <= len(shape)
        ]
        whole = [labels for labels, own in present if own == size]
        for labels, own in present:
            if own != size:
                call.keep(labels, "repeats one channel for all others")
        numbers = whole[0] if whole else None
        for other in whole[1:]:
            if numbers is not None or other is not None:
                reason = f"{call.name!r} combines channels with values that always stay"
                numbers = call.trace.channels.tie(numbers, other, reason)
        found.insert(0, numbers)
    return [tuple(found)]


def _concatenation(call: Call) -> list[Labels]:
    axis = call.operation.axis % len(call.output_shape)
    channels = call.trace.channels
    found: list[Numbers | None] = []
    for number, parts in enumerate(zip(*call.inputs, strict=True)):
        known = [labels for labels in parts if labels is not None]
        if not known:
            found.append(None)
        elif number == axis:
            sizes = [tensor.shape[axis] for tensor in call.node.input_tensors]
            joined = []
            for labels, size in zip(parts, sizes, strict=True):
                if labels is None:
                    labels = channels.new(size)
                    call.keep(labels, "has an input that always stays")
                joined.append(labels)
            found.append(np.concatenate(joined))
        else:
            reason = f"{call.name!r} combines channels with values that always stay"
            numbers = parts[0]
            for other in parts[1:]:
                numbers = channels.tie(numbers, other, reason)
            found.append(numbers)
    return [tuple(found)]


def _permute(call: Call) -> list[Labels]:
    return [(call.input[0], *(call.input[axis] for axis in call.operation.dims))]


def _repeat_vector(call: Call) -> list[Labels]:
    return [(call.input[0], None, call.input[1])]


def _flatten(call: Call) -> list[Labels]:
    if channel_axis(call.operation) == 1:
        shape = (*call.input_shape[2:], call.input_shape[1])
        return [_reshaped(call, (*call.input[2:], call.input[1]), shape)]
    return [_reshaped(call, call.input[1:], call.input_shape[1:])]


def _reshape(call: Call) -> list[Labels]:
    labels = _reshaped(call, call.input[1:], call.input_shape[1:])
    given = zip(call.operation.get_config()["target_shape"], labels[1:], strict=True)
    shape = tuple(size if size == -1 or n is None else n for size, n in given)
    call.resize("target_shape", shape)
    return [labels]


def _reshaped(call: Call, labels: Labels, shape: tuple[int | None, ...]) -> Labels:
    """Returns labels after a change of shape: those of an axis, if it has whole channels.

    Args:
        call: Of the layer, whose output has the new shape.
        labels: The labels before, without that of the batch.
        shape: The shape before, without the batch.
    """
    target = call.output_shape[1:]
    nothing: Labels = (None,) * len(call.output_shape)
    live = [(axis, numbers) for axis, numbers in enumerate(labels) if numbers is not None]
    if not live:
        return nothing
    axis, numbers = live[-1]  # of several axes of channels, the others stay
    found = _axis_after(numbers, axis, shape, target)
    for _, others in live if found is None else live[:-1]:
        call.keep(others, "changes a shape so that channels cannot be told apart")
    return nothing if found is None else replaced(nothing, found[0] + 1, found[1])


def _axis_after(
    numbers: Numbers, axis: int, shape: tuple[int | None, ...], target: tuple[int | None, ...]
) -> tuple[int, Numbers] | None:
    """Returns on which axis labels lie after a change of shape, and these labels.

    Args:
        numbers: The labels along an axis of the old shape.
        axis: That axis.
        shape: The old shape.
        target: The new shape.
    """
    old, new = ([size for size in each if size is not None] for each in (shape, target))
    if len(old) < len(shape) or len(new) < len(target):
        return None
    spread = np.expand_dims(numbers, [other for other in range(len(old)) if other != axis])
    moved = np.broadcast_to(spread, old).reshape(new)
    for found in reversed(range(len(new))):
        first = tuple(slice(None) if other == found else slice(1) for other in range(len(new)))
        if np.array_equal(np.broadcast_to(moved[first], new), moved):
            return found, moved[first].reshape(-1)
    return None


def _reduction(call: Call) -> list[Labels]:
    """Means and the like of `keras.ops` over some axes."""
    rank = len(call.input)
    axes = range(rank) if call.operation.axis is None else call.operation.axis
    gone = {axis % rank for axis in axes}
    for axis in gone:
        call.keep(call.input[axis], f"computes over all channels, as {_kind(call)}")
    if call.operation.keepdims:
        return [tuple(None if a in gone else n for a, n in enumerate(call.input))]
    return [tuple(n for a, n in enumerate(call.input) if a not in gone)]


def _kind(call: Call) -> str:
    return type(call.operation).__name__


_LAYERS = keras.layers
TENSOR_RULES: dict[type, Rule] = {
    **dict.fromkeys(
        (
            *(_LAYERS.ActivityRegularization, _LAYERS.AlphaDropout, _LAYERS.Dropout, _LAYERS.ELU),
            *(_LAYERS.GaussianDropout, _LAYERS.GaussianNoise, _LAYERS.Identity),
            *(_LAYERS.LeakyReLU, _LAYERS.ReLU, _LAYERS.SpatialDropout1D),
            *(_LAYERS.SpatialDropout2D, _LAYERS.SpatialDropout3D),
        ),
        _unchanged,
    ),
    **dict.fromkeys(
        [
            getattr(_LAYERS, f"{name}{rank}D")
            for name in ("AveragePooling", "Cropping", "MaxPooling", "UpSampling", "ZeroPadding")
            for rank in (1, 2, 3)
        ],
        _along_space,
    ),
    **dict.fromkeys(
        [
            getattr(_LAYERS, f"Global{name}Pooling{n}D")
            for name in ("Average", "Max")
            for n in "123"
        ],
        _global_pooling,
    ),
    **dict.fromkeys(
        (
            *(_LAYERS.GroupNormalization, _LAYERS.LayerNormalization, _LAYERS.RMSNormalization),
            *(_LAYERS.Softmax, _LAYERS.UnitNormalization),
        ),
        _mixing,
    ),
    **dict.fromkeys(
        (
            *(_LAYERS.Add, _LAYERS.Average, _LAYERS.Maximum, _LAYERS.Minimum, _LAYERS.Multiply),
            _LAYERS.Subtract,
        ),
        _elementwise,
    ),
    _LAYERS.Activation: _activation,
    _LAYERS.Concatenate: _concatenation,
    _LAYERS.Flatten: _flatten,
    _LAYERS.Permute: _permute,
    _LAYERS.RepeatVector: _repeat_vector,
    _LAYERS.Rescaling: _rescaling,
    _LAYERS.Reshape: _reshape,
}

_OPERATION_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("Abs", "Absolute", "Celu", "Copy", "Cos", "Elu", "Exp", "Gelu", "HardSigmoid"),
            *(
                "HardSilu",
                "LeakyRelu",
                "LogSigmoid",
                "Negative",
                "Relu",
                "Relu6",
                "Selu",
                "Sigmoid",
            ),
            *("Silu", "Sin", "Softplus", "Softsign", "Sqrt", "Square", "Tanh"),
        ),
        _unchanged,
    ),
    **dict.fromkeys(("Add", "Maximum", "Minimum", "Multiply", "Subtract"), _elementwise),
    **dict.fromkeys(("Amax", "Amin", "Max", "Mean", "Min", "Sum"), _reduction),
    "Concatenate": _concatenation,
}
"""By the name of the operation that a function of `keras.ops` records: its class is private."""


def operation_rule(operation: Any) -> Rule | None:
    """Returns the rule of what a function of `keras.ops` records; None if there is none."""
    if not type(operation).__module__.startswith("keras."):
        return None
    rule = _OPERATION_RULES.get(type(operation).__name__)
    return None if rule is None else _without_arrays(rule)


def _without_arrays(rule: Rule) -> Rule:
    def only_of_tensors(call: Call) -> list[Labels]:
        arguments = keras.tree.flatten((call.node.arguments.args, call.node.arguments.kwargs))
        others = [a for a in arguments if not keras.utils.is_keras_tensor(a)]
        if any(np.ndim(other) for other in others):
            return call.leave_whole("computes with an array")
        return rule(call)

    return only_of_tensors
