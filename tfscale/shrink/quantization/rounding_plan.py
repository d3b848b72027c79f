"""Where the tensors of a model are rounded, so that an integer file computes the same.

A file has an 8-bit tensor between two operations. One operation in a file may be several layers: a
convolution, the BatchNormalization after it, and a ReLU. So what is between those is not rounded.
Other layers only move numbers, and what they return is on the grid of what they got. A sigmoid, a
tanh and a softmax have one range in every file. All other layers compute with floats, also in a
file, between 8-bit tensors.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras

from strategies.extension import nodes_in_order
from tfscale.shrink.quantization.fake_quantize import FakeQuantize
from tfscale.shrink.quantization.rounded_layer import RoundedWeights
from tfscale.shrink.quantization.weighted_layers import kind_of

_LAYERS = keras.layers
_MOVING = (
    *(_LAYERS.Dropout, _LAYERS.SpatialDropout1D, _LAYERS.SpatialDropout2D, _LAYERS.GaussianDropout),
    *(_LAYERS.AlphaDropout, _LAYERS.GaussianNoise, _LAYERS.ActivityRegularization),
    *(_LAYERS.Flatten, _LAYERS.Reshape, _LAYERS.Permute, _LAYERS.RepeatVector, _LAYERS.Identity),
    *(_LAYERS.MaxPooling1D, _LAYERS.MaxPooling2D),
    *(_LAYERS.GlobalMaxPooling1D, _LAYERS.GlobalMaxPooling2D),
    *(_LAYERS.ZeroPadding1D, _LAYERS.ZeroPadding2D, _LAYERS.Cropping1D, _LAYERS.Cropping2D),
)
"""What they return in prediction is among what they got, or zero."""
_INTEGER = (
    *(_LAYERS.Add, _LAYERS.Subtract, _LAYERS.Multiply, _LAYERS.Concatenate),
    *(_LAYERS.GlobalAveragePooling1D, _LAYERS.GlobalAveragePooling2D),
)
_FIXED = {
    "sigmoid": (0.0, 255 / 256),
    "softmax": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}
"""The ranges of LiteRT's 8-bit operations."""


class RoundingPlan:
    """What is rounded after each call of a layer, from the graph of a model.

    Args:
        graph: From `graph_of`, of layers without activations inside.
        momentum: Of the ranges.
    """

    def __init__(self, graph: Any, momentum: float = 0.99) -> None:
        nodes = nodes_in_order(graph)
        self._momentum = momentum
        self._names: Counter[str] = Counter()
        self._users: dict[int, list[Any]] = {}
        for node in nodes:
            for tensor in node.input_tensors:
                self._users.setdefault(id(tensor), []).append(node)
        self._outputs = Counter(id(tensor) for tensor in graph.outputs)
        self._makers = {id(tensor): node for node in nodes for tensor in node.outputs}

    def range_after(self, node: Any) -> FakeQuantize | None:
        """Returns a new layer that rounds what `node` returns, or None if nothing does."""
        (tensor, *others) = node.outputs
        operation = node.operation
        is_moved = isinstance(operation, _MOVING) or _is_table(operation)
        if others or is_moved or not keras.backend.is_float_dtype(tensor.dtype):
            return None
        if self.folded_after(node) is not None or self._is_before_relu(tensor):
            return None
        fixed = _FIXED.get(_activation_of(operation))
        if fixed or self._is_integer(node) or self._is_read_as_integers(tensor):
            return self._new_range(operation.name, fixed)
        return None

    def range_of_input(self, tensor: Any) -> FakeQuantize | None:
        """Returns a new layer that rounds an input of the model, or None if nothing does."""
        is_float = keras.backend.is_float_dtype(tensor.dtype)
        is_rounded = is_float and self._is_read_as_integers(tensor)
        return self._new_range(tensor.name) if is_rounded else None

    def _new_range(self, name: str, fixed: tuple[float, float] | None = None) -> FakeQuantize:
        self._names[name] += 1
        number = f"_{self._names[name]}" if self._names[name] > 1 else ""
        return FakeQuantize(self._momentum, fixed, name=f"{name}_range{number}")

    def range_before(self, node: Any) -> FakeQuantize | None:
        """Returns the layer that has rounded what `node` reads, or None if it is another."""
        maker = self._makers.get(id(node.input_tensors[0]))
        while maker is not None and isinstance(maker.operation, _MOVING):
            maker = self._makers.get(id(maker.input_tensors[0]))
        operation = None if maker is None else maker.operation
        return operation if isinstance(operation, FakeQuantize) else None

    def folded_after(self, node: Any) -> Any:
        """Returns the call of a BatchNormalization that becomes part of a layer's weights, or None.

        Each output channel has its own scale, so scaling rounded weights by channel gives what
        rounding scaled weights gives: the layer can train as it is, with the statistics of batches.
        """
        if not _is_weighted(node.operation) or _is_table(node.operation):
            return None
        user = self._only_user(node.outputs[0])
        if user is None or not isinstance(user.operation, _LAYERS.BatchNormalization):
            return None
        is_last = user.operation.axis in (-1, len(node.outputs[0].shape) - 1)
        return user if is_last else None

    def _only_user(self, tensor: Any) -> Any:
        users = self._users.get(id(tensor), [])
        return users[0] if len(users) == 1 and id(tensor) not in self._outputs else None

    def _is_before_relu(self, tensor: Any) -> bool:
        """Tells whether a ReLU after `tensor` is part of the operation that computes it."""
        user, maker = self._only_user(tensor), self._makers[id(tensor)]
        if user is None or _activation_of(user.operation) not in ("relu", "relu6"):
            return False
        operation = maker.operation
        return (
            _is_weighted(operation) or isinstance(operation, _LAYERS.Add) or self._is_folded(maker)
        )

    def _is_folded(self, node: Any) -> bool:
        if not isinstance(node.operation, _LAYERS.BatchNormalization):
            return False
        before = self._makers.get(id(node.input_tensors[0]))
        return before is not None and self.folded_after(before) is node

    def _is_integer(self, node: Any) -> bool:
        operation = node.operation
        is_scaling = isinstance(operation, _LAYERS.Rescaling) and _is_zero(operation.offset)
        return (
            _is_weighted(operation)
            or isinstance(operation, _INTEGER)
            or is_scaling
            or _activation_of(operation) in (*_FIXED, "relu", "relu6")
            or self._is_folded(node)
        )

    def _is_read_as_integers(self, tensor: Any) -> bool:
        """Tells whether a layer that computes with integers reads a tensor, perhaps moved."""
        return any(
            any(map(self._is_read_as_integers, user.outputs))
            if isinstance(user.operation, _MOVING)
            else self._is_integer(user)
            for user in self._users.get(id(tensor), [])
        )


def _is_weighted(operation: Any) -> bool:
    is_layer = isinstance(operation, keras.layers.Layer)
    return isinstance(operation, RoundedWeights) or (is_layer and kind_of(operation) is not None)


def _is_table(operation: Any) -> bool:
    inner = operation.layer if isinstance(operation, RoundedWeights) else operation
    return type(inner) is _LAYERS.Embedding


def _is_zero(offset: Any) -> bool:
    return isinstance(offset, int | float) and offset == 0


def _activation_of(operation: Any) -> str:
    """Returns the name of the activation that a layer computes and nothing else; "" for none."""
    if type(operation) is _LAYERS.Activation:
        return str(getattr(operation.activation, "__name__", ""))
    if type(operation) is _LAYERS.ReLU and not operation.negative_slope and not operation.threshold:
        return {None: "relu", 6: "relu6"}.get(operation.max_value, "")
    is_softmax = type(operation) is _LAYERS.Softmax and operation.axis == -1
    return "softmax" if is_softmax else ""
