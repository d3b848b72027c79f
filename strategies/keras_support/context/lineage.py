"""Lineage: what a tensor of a replica's step was computed from.

Whether a gradient still has to be averaged, whether a layer's state differs between replicas, and
whether rows of an embedding belong together all depend on one question: does this tensor depend on
the replica's own examples, or only on values that are equal on all replicas? While a step is
traced, its graph answers this. If a step runs eagerly, each operation is recorded instead.
"""

from __future__ import annotations

import contextlib
import enum
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_callbacks


class Source(enum.Flag):
    """What a tensor depends on, besides constants and variables that are equal on all replicas."""

    SHARED = 0
    DATA = enum.auto()
    """This replica's own examples, or numbers that it drew for itself."""
    REDUCED = enum.auto()
    """Gradients that are the mean over all replicas already."""
    LOCAL_GRADIENT = enum.auto()
    """Gradients of one replica, which are still to be reduced."""


OWN = Source.DATA | Source.LOCAL_GRADIENT
"""What differs between replicas."""

_DRAWS = ("Random", "Stateful", "Multinomial", "ParameterizedTruncated", "TruncatedNormal")
_ITERATORS = ("IteratorGetNext", "OptionalGetValue", "IteratorGetNextSync", "PyFunc", "EagerPyFunc")
_READS = ("ReadVariableOp", "ResourceGather", "ResourceGatherNd")
_PASSING = ("Identity", "IdentityN", "Reshape", "Cast", "StopGradient", "PreventGradient")
"""Operations that hand on the values of their first input."""
_ARITHMETIC = (*_PASSING, "Add", "AddV2", "AddN", "Sub", "Neg", "Mul", "RealDiv", "ConcatV2")
_COMBINING = (
    *("ReadVariableOp", "EnsureShape", "ExpandDims", "Squeeze", "Pack", "Select", "SelectV2"),
    *("Maximum", "Minimum", "Max", "Min", "LogicalOr", "LogicalAnd", "Any", "All", "Sum"),
    *("Greater", "GreaterEqual", "Less", "LessEqual"),
    *("TensorScatterAdd", "TensorScatterSub", "TensorScatterMax", "TensorScatterMin"),
)
"""With them, how a metric's update combines old and new."""
_REMEMBERED = (*_ARITHMETIC, *_COMBINING)
"""Operations whose inputs are remembered in eager steps."""
_BODIES = ("then_branch", "else_branch", "body", "f", "branches")


class Lineage:
    """Knows what the tensors of one replica's step depend on.

    Args:
        data: The tensors of this replica's batch, or structures of them.
        state: Tells what was written to a variable in this step, by the id of its eager handle.
    """

    def __init__(self, data: Any, state: Callable[[int], Source]) -> None:
        self._state = state
        self._marks: dict[Any, Source] = {}
        self._known: dict[Any, Source] = {}
        self._eager: dict[int, _Computed] = {}
        self._bodies: dict[str, Any] = {}
        self._local: list[Any] = []
        self.mark(_tensors(data), Source.DATA)

    def mark(self, tensors: Iterable[Any], source: Source) -> None:
        """Sets what tensors depend on, whatever they were computed from."""
        for tensor in tensors:
            if not tf.is_tensor(tensor):
                continue
            if not tf.is_symbolic_tensor(tensor):
                self._remember(tensor, source, self.operation(tensor)[0], self.operation(tensor)[1])
                continue
            self._marks[_key(tensor)] = source
            if source & Source.LOCAL_GRADIENT:
                self._bodies[tensor.graph.name] = tensor.graph
                self._local.append(tensor)
        self._known.clear()

    def of(self, tensor: Any) -> Source:
        """Returns what `tensor` depends on; of `tf.IndexedSlices`, values and indices."""
        found = Source.SHARED
        for part in _tensors(tensor):
            found |= (
                self._of_symbolic(part) if tf.is_symbolic_tensor(part) else self._of_eager(part)
            )
        return found

    def forget_reads(self) -> None:
        """Forgets what is known about reads of variables, because one was assigned."""
        self._known.clear()

    def operation(self, tensor: Any) -> tuple[str, list[Any]]:
        """Returns the type and inputs of the operation that computed `tensor`.

        Of an eager step only arithmetic is remembered: other types come without inputs.
        """
        if tf.is_symbolic_tensor(tensor):
            return tensor.op.type, _inputs_of(tensor)
        held = self._eager.get(id(tensor))
        if held is None or held.tensor() is not tensor:
            return "", []
        return held.kind, held.inputs

    def comes_from(self, tensor: Any, kind: str) -> bool:
        """Tells whether `tensor` has the values of an operation of type `kind`, unchanged."""
        return self.operation(self.origin(tensor))[0] == kind

    def joined(self, tensor: Any) -> list[Any]:
        """Returns the tensors that `tensor` joins along its first dimension; itself if none."""
        kind, inputs = self.operation(self.origin(tensor))
        if kind != "ConcatV2" or tf.get_static_value(inputs[-1]) != 0:
            return [tensor]
        return inputs[:-1]

    def origin(self, tensor: Any) -> Any:
        """Returns the tensor whose values `tensor` hands on."""
        while True:
            kind, inputs = self.operation(tensor)
            if kind == "SelectV2" and inputs and self._counts_from_the_end(*inputs[1:]):
                tensor = inputs[2]
            elif kind in _PASSING and inputs:
                tensor = inputs[0]
            else:
                return tensor

    def _counts_from_the_end(self, shifted: Any, indices: Any) -> bool:
        """Tells whether `shifted` is `indices` plus a size, as Keras has it for negative ones."""
        kind, inputs = self.operation(shifted)
        return kind == "AddV2" and any(each is indices for each in inputs)

    def is_marked(self, tensor: Any) -> bool:
        """Tells whether `mark` was called with `tensor` itself."""
        return _key(tensor) in self._marks

    def marked_in(self, graph: Any) -> list[Any]:
        """Returns the local gradients that were computed in `graph`."""
        return [t for t in self._local if t.graph is graph]

    def body(self, name: str) -> Any:
        """Returns the graph of a condition or loop in which gradients were computed, or None."""
        return self._bodies.get(name)

    # Graphs.

    def _of_symbolic(self, tensor: Any) -> Source:
        """Walks the graph from `tensor` back; without recursion, for deep models."""
        stack = [tensor]
        while stack:
            current = stack[-1]
            key = _key(current)
            if key in self._known:
                stack.pop()
                continue
            if key in self._marks:
                self._known[key] = self._marks[key]
                stack.pop()
                continue
            own, inputs = self._step_back(current)
            waiting = [t for t in inputs if _key(t) not in self._known]
            if waiting:
                stack.extend(waiting)
                continue
            for each in inputs:
                own |= self._known.get(_key(each), Source.SHARED)
            self._known[key] = own
            stack.pop()
        return self._known[_key(tensor)]

    def _step_back(self, tensor: Any) -> tuple[Source, list[Any]]:
        """What the operation of `tensor` adds by itself, and the tensors it was computed from."""
        operation = tensor.op
        kind = operation.type
        if kind == "Placeholder":
            outer = outer_tensor(tensor)
            if outer is not None:
                return Source.SHARED, [outer] if tf.is_symbolic_tensor(outer) else []
            return (Source.SHARED if tensor.dtype == tf.resource else Source.DATA), []
        if kind in _READS:
            return self._state(handle_id(operation.inputs[0])), list(operation.inputs[1:])
        if kind in _ITERATORS or kind.startswith(_DRAWS):
            return Source.DATA, []
        if _is_common_size(tensor):
            return Source.SHARED, []
        own = Source.SHARED
        for name in called_bodies(operation):
            if name in self._bodies:
                own |= Source.LOCAL_GRADIENT | Source.DATA
        inputs = [t for t in _inputs_of(tensor) if t.dtype != tf.resource]
        for control in operation.inputs:
            if control.dtype == tf.resource and called_bodies(operation):
                own |= self._state(handle_id(control))
        return own, inputs

    # Eager steps.

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watches each operation that runs eagerly inside."""
        if not tf.executing_eagerly():
            yield
            return
        op_callbacks.add_op_callback(self._note)
        try:
            yield
        finally:
            op_callbacks.remove_op_callback(self._note)
            self._eager.clear()

    def _note(
        self,
        op_type: Any,
        inputs: Any,
        attrs: Any,
        outputs: Any,
        op_name: Any = None,
        graph: Any = None,
    ) -> None:
        if graph is not None:
            return
        kind = op_type.decode() if isinstance(op_type, bytes) else str(op_type)
        if kind in _READS:
            found = self._state(id(inputs[0]))
        elif kind in _ITERATORS or kind.startswith(_DRAWS):
            found = Source.DATA
        else:
            found = Source.SHARED
            for each in inputs:
                found |= self._of_eager(each)
            if kind == "StridedSlice" and self.operation(inputs[0])[0] == "Shape":
                is_common = _is_behind_first(int(inputs[1][0]), int(inputs[0].shape[0]))
                found = Source.SHARED if is_common else found
        is_unstacked = kind == "Unpack" and self.operation(inputs[0])[0] == "Shape"
        for place, each in enumerate(outputs):
            source = Source.SHARED if is_unstacked and place else found
            from_ = [inputs[place]] if kind == "IdentityN" else list(inputs)
            self._remember(each, source, kind, from_ if kind in _REMEMBERED else [])

    def _remember(self, tensor: Any, source: Source, kind: str, inputs: list[Any]) -> None:
        try:
            held = weakref.ref(tensor)
        except TypeError:  # not a tensor
            return
        self._eager[id(tensor)] = _Computed(held, source, kind, inputs)

    def _of_eager(self, tensor: Any) -> Source:
        held = self._eager.get(id(tensor))
        return held.source if held is not None and held.tensor() is tensor else Source.SHARED


@dataclass(frozen=True)
class _Computed:
    """What is recorded about a tensor of an eager step."""

    tensor: Any
    source: Source
    kind: str
    inputs: list[Any]


def _inputs_of(tensor: Any) -> list[Any]:
    """The tensors that a tensor of a graph was computed from."""
    if tensor.op.type == "IdentityN":  # the results of a custom gradient, and its arguments
        return [tensor.op.inputs[tensor.value_index]]
    return list(tensor.op.inputs)


def _tensors(structure: Any) -> list[Any]:
    flat = tf.nest.flatten(structure, expand_composites=True)
    return [part for part in flat if tf.is_tensor(part) and not isinstance(part, tf.Variable)]


def _key(tensor: Any) -> Any:
    return id(tensor.graph), tensor.op.name, tensor.value_index


def outer_tensor(placeholder: Any) -> Any:
    """Returns what a placeholder of an inner graph stands for outside of it, or None."""
    for outer, inner in getattr(placeholder.graph, "captures", ()):
        if inner is placeholder:
            return outer
    return None


def handle_id(handle: Any) -> int:
    """Returns the id of the eager handle that a graph's handle of a variable stands for."""
    while tf.is_symbolic_tensor(handle):
        if handle.op.type == "Placeholder":
            outer = outer_tensor(handle)
            if outer is None:
                return 0
            handle = outer
        elif handle.op.inputs:
            handle = handle.op.inputs[0]
        else:
            return 0
    return id(handle)


def called_bodies(operation: Any) -> list[str]:
    """Returns the names of the graphs that a condition, loop or call runs."""
    names = []
    for attribute in _BODIES:
        try:
            value = operation.get_attr(attribute)
        except ValueError:
            continue
        for each in value if isinstance(value, list) else [value]:
            names += [each.name] if hasattr(each, "name") else []
    return names


def _is_common_size(tensor: Any) -> bool:
    """Tells whether `tensor` is a size other than the first, taken from a tensor's shape.

    The rows of a replica batch are its own; every other size (time steps, channels) is that of
    the global batch.
    """
    operation = tensor.op
    if operation.type not in ("StridedSlice", "Unpack", "GatherV2"):
        return False
    shape = operation.inputs[0]
    while shape.op.type in ("Identity", "Cast"):
        shape = shape.op.inputs[0]
    if shape.op.type not in ("Shape", "ShapeN"):
        return False
    if operation.type == "Unpack":
        return bool(tensor.value_index > 0)
    first = tf.get_static_value(operation.inputs[1])
    if first is None:
        return False
    if operation.type == "StridedSlice" and tf.get_static_value(operation.inputs[3]) != 1:
        return False
    return all(_is_behind_first(place, shape.shape[0]) for place in first.ravel())


def _is_behind_first(place: Any, rank: int | None) -> bool:
    """Tells whether `place`, perhaps counted from the end, is a dimension other than the first."""
    if place < 0 and rank is None:
        return False
    return bool(place > 0 or (place < 0 and place + rank > 0))
