"""Which activations a model keeps for its backward pass, by layer, from one trace of both passes.

A tensor is kept if the forward pass makes it and the backward pass reads it. Weights are not
counted. Nothing is run.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

_SAME_MEMORY = ("Identity", "Reshape", "StopGradient", "Squeeze", "ExpandDims", "PreventGradient")
_NOT_ACTIVATIONS = ("ReadVariableOp", "Const", "Placeholder", "VarHandleOp", "Shape", "ShapeN")


@dataclass
class _Called:
    """The calls of one layer: their operations, as ranges, and the tensors they take and return."""

    ranges: list[tuple[int, int]] = field(default_factory=list)
    taken: set[Any] = field(default_factory=set)
    returned: set[Any] = field(default_factory=set)


class KeptActivations:
    """What the layers of a model keep. Layers are named by their place in a list.

    Attributes:
        sizes: By tensor, its bytes; negative if it is only kept as a recomputed layer's input.
    """

    def __init__(
        self, operations: Sequence[Any], kept: Iterable[Any], called: list[_Called]
    ) -> None:
        self._operations = operations
        self._called = called
        self._place = {operation.name: i for i, operation in enumerate(operations)}
        self.sizes: dict[Any, int] = {each: _bytes(each.deref()) for each in kept}
        for layer in called:
            for reference in layer.taken:
                self.sizes.setdefault(reference, -_bytes(reference.deref()))

    def was_called(self, layer: int) -> bool:
        """Tells whether a layer is called in the forward pass."""
        return bool(self._called[layer].ranges)

    def inside(self, layer: int) -> frozenset[Any]:
        """Returns the tensors that recomputing a layer would free."""
        called = self._called[layer]
        return frozenset(
            reference
            for reference, size in self.sizes.items()
            if size > 0
            and reference not in called.returned
            and any(
                begin <= self._place[reference.deref().op.name] < end
                for begin, end in called.ranges
            )
        )

    def inputs(self, layer: int) -> frozenset[Any]:
        """Returns the tensors that a layer takes."""
        return frozenset(self._called[layer].taken)

    def operations(self, layer: int) -> float:
        """Returns the floating point operations of a layer's forward pass."""
        return sum(
            _floating_point_operations(operation)
            for begin, end in self._called[layer].ranges
            for operation in self._operations[begin:end]
        )


def kept_by_layer(model: keras.Model, layers: Sequence[Any], inputs: Any) -> KeptActivations:
    """Traces the passes of a model on one replica batch, without running them.

    Args:
        model: A built model.
        layers: Layers in it.
        inputs: Its inputs, as arrays, tensors or `tf.TypeSpec`, with all sizes known.

    Raises:
        ValueError: If a size is not known.
    """
    called = [_Called() for _ in layers]
    found: list[KeptActivations] = []
    specs = tf.nest.map_structure(_spec, inputs)

    def passes(*flat: Any) -> None:
        graph = tf.compat.v1.get_default_graph()
        with _observed(layers, called), tf.GradientTape() as tape:
            outputs = model(tf.nest.pack_sequence_as(specs, flat), training=True)
            total = tf.add_n(
                [
                    tf.reduce_sum(tf.cast(each, tf.float32))
                    for each in [*tf.nest.flatten(outputs), *model.losses]
                    if tf.as_dtype(each.dtype).is_floating
                ]
            )
        forward = graph.get_operations()
        names = {operation.name for operation in forward}
        tape.gradient(total, model.trainable_variables)
        kept = {
            _root(tensor).ref()
            for operation in graph.get_operations()[len(forward) :]
            for tensor in operation.inputs
            if tensor.op.name in names and _is_activation(_root(tensor))
        }
        found.append(KeptActivations(forward, kept, called))

    function = tf.function(passes, autograph=False)
    function.get_concrete_function(*tf.nest.flatten(specs))
    return found[0]


@contextlib.contextmanager
def _observed(layers: Sequence[Any], called: Sequence[_Called]) -> Iterator[None]:
    """Notes the operations of each call of `layers`."""
    # Not by setattr: Keras looks for layers and variables in what is set.
    for layer, notes in zip(layers, called, strict=True):
        vars(layer)["call"] = _observing(layer.call, notes)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("call", None)


def _observing(call: Callable[..., Any], notes: _Called) -> Callable[..., Any]:
    def observed(*args: Any, **kwargs: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        begin = len(graph.get_operations())
        result = call(*args, **kwargs)
        notes.ranges.append((begin, len(graph.get_operations())))
        notes.taken |= _references((args, kwargs))
        notes.returned |= _references(result)
        return result

    return observed


def _references(structure: Any) -> set[Any]:
    flat = tf.nest.flatten(structure, expand_composites=True)
    tensors = [each for each in flat if tf.is_symbolic_tensor(each)]
    return {_root(each).ref() for each in tensors if not isinstance(each, keras.KerasTensor)}


def _root(tensor: Any) -> Any:
    """Returns the tensor whose memory `tensor` shares."""
    while True:
        if tensor.op.type == "IdentityN":
            tensor = tensor.op.inputs[tensor.value_index]
        elif tensor.op.type in _SAME_MEMORY:
            tensor = tensor.op.inputs[0]
        else:
            return tensor


def _is_activation(tensor: Any) -> bool:
    is_data = tensor.dtype not in (tf.resource, tf.variant, tf.string)
    return is_data and tensor.op.type not in _NOT_ACTIVATIONS


def _bytes(tensor: Any) -> int:
    count = tensor.shape.num_elements()
    if count is None:
        if tensor.dtype in (tf.resource, tf.variant, tf.string):
            return 0
        raise ValueError(
            "`inputs` must determine the size of every activation. Received: inputs for which "
            f"{tensor.name!r} has the shape {tensor.shape}. Pass `layers` instead of a budget."
        )
    return int(count) * int(tensor.dtype.size)


def _spec(part: Any) -> Any:
    return (
        part
        if isinstance(part, tf.TypeSpec)
        else tf.TensorSpec.from_tensor(tf.convert_to_tensor(part))
    )


def _floating_point_operations(operation: Any) -> float:
    """Counts multiplications and additions of an operation; those of a loop once."""
    shapes = [each.shape for each in operation.inputs]
    outputs = [each for each in operation.outputs if each.shape.is_fully_defined()]
    elements = float(sum(math.prod(each.shape) for each in outputs))
    if operation.type in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        transposed = "transpose_a" if operation.type == "MatMul" else "adj_x"
        return 2.0 * elements * int(shapes[0][-2 if operation.get_attr(transposed) else -1])
    if operation.type in ("Conv2D", "Conv3D", "DepthwiseConv2dNative"):
        per_element = int(math.prod(shapes[1][:-1]))
        if operation.type == "DepthwiseConv2dNative":
            per_element = int(math.prod(shapes[1][:-2]))
        return 2.0 * elements * per_element
    if operation.type == "Einsum":
        terms = operation.get_attr("equation").decode().partition("->")[0].split(",")
        sizes = {
            letter: int(size)
            for term, shape in zip(terms, shapes, strict=True)
            if "." not in term and shape.is_fully_defined()
            for letter, size in zip(term, shape, strict=True)
        }
        return 2.0 * math.prod(sizes.values())
    return float(elements)
