"""Gathers the parameters of a layer once more for its backward pass.

TensorFlow's gradient functions refer to the tensors of the forward pass, which would keep all
gathered parameters until then. So while a gradient is traced, operations that would use such a
tensor, or one that was computed only from such tensors (a cast, a transpose), get it from a new
gather, which waits for the gradient that arrives at the layer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.step_context import StepContext
from strategies.keras_support.sharding.gathering import Gathers, gathered

ONLY_SHAPE = ("Rank", "Shape", "ShapeN", "Size")
"""Operations that look at no value. The gradient of a convolution begins with one: it waits for
nothing, so what it would gather again would be in memory from the beginning of the backward pass.
"""


@contextlib.contextmanager
def gathering_again(step: StepContext) -> Iterator[None]:
    """While a gradient is traced: its operations gather parameters again.

    Args:
        step: Of this replica, with what its forward pass has gathered.
    """
    graph = tf.compat.v1.get_default_graph()
    if step.gathers is None or not step.gathers.values or tf.executing_eagerly():
        yield
        return
    _watch(graph)
    outer, _BACKWARD.again = _BACKWARD.again, _Again(step.gathers, graph)
    try:
        yield
    finally:
        _BACKWARD.again = outer


class _Backward(threading.local):
    """The gradient that this replica is tracing, or None."""

    again: _Again | None = None


_BACKWARD = _Backward()


def _watch(graph: Any) -> None:
    """Lets a graph ask, for each new operation, whether its inputs are to be gathered again.

    All replicas are traced in one graph, each in its own thread.
    """
    create = graph._create_op_internal
    if hasattr(create, "is_watched"):
        return

    def create_from_new_gathers(op_type: str, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        again = _BACKWARD.again
        if again is None or again.graph is not graph:
            return create(op_type, inputs, *args, **kwargs)
        if op_type not in ONLY_SHAPE:
            inputs = again.replaced(list(inputs))
        operation = create(op_type, inputs, *args, **kwargs)
        again.own.add(operation)
        return operation

    create_from_new_gathers.is_watched = True  # type: ignore[attr-defined]
    graph._create_op_internal = create_from_new_gathers


class _Again:
    """Rebuilds what was computed from gathered parameters only."""

    def __init__(self, gathers: Gathers, graph: Any) -> None:
        self.own: set[Any] = set()
        self._gathers = gathers
        self.graph = graph
        self._rebuilt: dict[str, tf.Tensor] = {}
        self._is_derived: dict[str, bool] = {}
        self._is_rebuilding = False

    def replaced(self, inputs: list[Any]) -> list[Any]:
        if self._is_rebuilding:
            return inputs
        places = [i for i, t in enumerate(inputs) if self._derives(t)]
        if not places:
            return inputs
        arriving = [t.op for t in inputs if getattr(t, "op", None) in self.own]
        self._is_rebuilding = True
        try:
            with tf.control_dependencies(arriving):
                for i in places:
                    inputs[i] = self._rebuild(inputs[i])
        finally:
            self._is_rebuilding = False
        return inputs

    def _derives(self, tensor: Any) -> bool:
        if not tf.is_symbolic_tensor(tensor) or tensor.graph is not self.graph:
            return False
        name = tensor.name
        if name not in self._is_derived:
            self._is_derived[name] = name in self._gathers.values or (
                tensor.op not in self.own
                and not tensor.op.op_def.is_stateful
                and tensor.op.type not in ("Const", "Placeholder")
                and bool(tensor.op.inputs)
                and self._inputs_derive(tensor.op)
            )
        return self._is_derived[name]

    def _inputs_derive(self, operation: Any) -> bool:
        """Tells whether an operation has gathered inputs, and otherwise only constants."""
        derived = [self._derives(t) for t in operation.inputs]
        return any(derived) and all(
            is_derived or t.op.type == "Const"
            for t, is_derived in zip(operation.inputs, derived, strict=True)
        )

    def _rebuild(self, tensor: tf.Tensor) -> tf.Tensor:
        name = tensor.name
        if name not in self._rebuilt:
            if name in self._gathers.values:
                self._rebuilt[name] = gathered(self._gathers.values[name])
            else:
                operation = tensor.op
                inputs = [self._rebuild(t) if self._derives(t) else t for t in operation.inputs]
                copy = self.graph._create_op_internal(
                    operation.type,
                    inputs,
                    [t.dtype for t in operation.outputs],
                    attrs=dict(operation.node_def.attr),
                    op_def=operation.op_def,
                )
                for old, new in zip(operation.outputs, copy.outputs, strict=True):
                    self._rebuilt[old.name] = new
        return self._rebuilt[name]
