"""Follows channels through the graph of a model, from call to call of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras

from strategies.extension import graph_of, nodes_in_order
from tfscale.shrink.structured.channels import Channels, Labels, Numbers

Role = Literal["makes", "follows", "reads", "statistics"]
"""What an axis of a weight is to its channels: it computes them from other values (the columns of
Dense); changes each by itself (a bias); computes other values from them (the rows of Dense); or is
measured on them and not trained (the moving mean of BatchNormalization)."""

Rule = Callable[["Call"], list[Labels]]
"""Ties what a call ties, and returns the labels of its outputs."""


@dataclass(frozen=True)
class WeightAxis:
    """An axis of a weight along which channels lie.

    Attributes:
        variable: The Keras variable.
        axis: Counted from 0.
        labels: The number of the channel at each position.
        role: What the axis is to the channels.
        layer: The name of the layer, with those of the models around it.
    """

    variable: Any
    axis: int
    labels: Numbers
    role: Role
    layer: str


@dataclass(frozen=True)
class Size:
    """A size in the config of a layer that follows the number of channels.

    Attributes:
        layer: The layer.
        key: The key of its config.
        value: What is put there: the number of the channels that stay, for labels, also inside of a
            tuple.
    """

    layer: Any
    key: str
    value: Any


@dataclass
class Trace:
    """What is known of the channels of a model.

    Attributes:
        channels: Their numbers.
        axes: The axes of weights along which they lie, by the weight's id and the axis.
        sizes: What has to be changed in the configs of layers.
        unknown: Layers that are left whole, and why, by their names.
    """

    channels: Channels = field(default_factory=Channels)
    axes: dict[tuple[int, int], WeightAxis] = field(default_factory=dict)
    sizes: list[Size] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation.

    Attributes:
        trace: To which the rule of the layer adds.
        operation: The layer or operation.
        name: Its name, with those of the models around it.
        node: Keras's record of the call.
        labels: Those of each tensor in the arguments, by the tensor's id.
    """

    trace: Trace
    operation: Any
    name: str
    node: Any
    labels: dict[int, Labels]

    @property
    def inputs(self) -> list[Labels]:
        """The labels of the tensors in the arguments, in their order."""
        return [self.labels[id(tensor)] for tensor in self.node.input_tensors]

    @property
    def input(self) -> Labels:
        """The labels of the first tensor."""
        return self.inputs[0]

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of the first tensor."""
        return tuple(self.node.input_tensors[0].shape)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of the first output."""
        return tuple(self.node.outputs[0].shape)

    def along(self, variable: Any, axis: int, role: Role) -> Numbers:
        """Returns the labels along an axis of a weight, the same in each call of the layer."""
        axis %= len(variable.shape)
        key = (id(variable), axis)
        if key not in self.trace.axes:
            labels = self.trace.channels.new(variable.shape[axis])
            self.trace.axes[key] = WeightAxis(variable, axis, labels, role, self.name)
        return self.trace.axes[key].labels

    def tie(self, variable: Any, axis: int, role: Role, labels: Numbers | None) -> None:
        """Ties an axis of a weight with one of a tensor. A weight that is None ties nothing."""
        if variable is not None:
            own = self.along(variable, axis, role)
            self.trace.channels.tie(own, labels, f"{self.name!r} reads values that always stay")

    def keep(self, labels: Numbers | None, reason: str) -> None:
        """Keeps channels, because of this layer."""
        self.trace.channels.keep(labels, f"{self.name!r} {reason}")

    def resize(self, key: str, value: Any) -> None:
        """Lets a size in the layer's config follow the channels: see `Size`."""
        self.trace.sizes.append(Size(self.operation, key, value))

    def leave_whole(self, reason: str) -> list[Labels]:
        """Keeps all channels that the call reads, and returns labels of outputs that stay whole."""
        self.trace.unknown.setdefault(self.name, reason)
        for labels in self.inputs:
            for along_axis in labels:
                self.keep(along_axis, reason)
        return [(None,) * len(tensor.shape) for tensor in self.node.outputs]


def traced(model: keras.Model, rule_of: Callable[[Any], Rule | None]) -> Trace:
    """Follows the channels of a model from its inputs to its outputs, all of which stay.

    Args:
        model: A Functional or built Sequential model.
        rule_of: Returns the rule of a layer or operation, or None if there is none: the layer is
            left whole.

    Raises:
        ValueError: If the model's graph is not known.
    """
    return _Tracer(rule_of).trace_of(model)


class _Tracer:
    def __init__(self, rule_of: Callable[[Any], Rule | None]) -> None:
        self._rule_of = rule_of
        self._trace = Trace()
        self._whole_layers: list[tuple[Any, str]] = []
        self._models: dict[int, tuple[list[Labels], list[Labels]]] = {}

    def trace_of(self, model: keras.Model) -> Trace:
        graph = graph_of(model)
        channels = self._trace.channels
        inputs = [(None,) * len(tensor.shape) for tensor in graph.inputs]
        for labels in self._outputs(graph, inputs, ""):
            for along_axis in labels:
                channels.keep(along_axis, "they are an output of the model")
        for layer, reason in self._whole_layers:
            for variable in layer.variables:
                for axis in range(len(variable.shape)):
                    if known := self._trace.axes.get((id(variable), axis)):
                        channels.keep(known.labels, reason)
        return self._trace

    def _outputs(self, graph: Any, inputs: Sequence[Labels], prefix: str) -> list[Labels]:
        """Returns the labels of a graph's outputs. `prefix` is that of the names in it."""
        known = {id(t): labels for t, labels in zip(graph.inputs, inputs, strict=True)}
        for node in nodes_in_order(graph):
            name = f"{prefix}{node.operation.name}"
            call = Call(self._trace, node.operation, name, node, known)
            outputs = self._outputs_of(call)
            for tensor, labels in zip(node.outputs, outputs, strict=True):
                _require_sizes(call, tensor, labels)
                known[id(tensor)] = labels
        return [known[id(tensor)] for tensor in graph.outputs]

    def _outputs_of(self, call: Call) -> list[Labels]:
        operation = call.operation
        inner = inner_graph(operation)
        if inner is not None and len(inner.inputs) == len(call.inputs):
            return self._outputs_of_model(call, inner)
        if getattr(operation, "quantization_mode", None) or getattr(operation, "lora_enabled", 0):
            return self._whole(call, "is quantized or has LoRA weights")
        rule = self._rule_of(operation)
        if rule is None:
            kind = type(operation).__name__
            return self._whole(call, f"is of a kind without a rule for channels, {kind}")
        return rule(call)

    def _whole(self, call: Call, reason: str) -> list[Labels]:
        if isinstance(call.operation, keras.layers.Layer):
            inside = f"is used in {call.name!r}, which is left whole"
            self._whole_layers.append((call.operation, inside))
        return call.leave_whole(reason)

    def _outputs_of_model(self, call: Call, graph: Any) -> list[Labels]:
        """Follows an inner model once; other calls of it tie their inputs to those of the first."""
        if id(call.operation) not in self._models:
            for tensor, labels in zip(graph.inputs, call.inputs, strict=True):
                sizes = zip(tensor.shape, labels, strict=True)
                shape = tuple(size if numbers is None else numbers for size, numbers in sizes)
                layer = input_layer_of(graph, tensor)
                self._trace.sizes.append(Size(layer, "batch_shape", shape))
            outputs = self._outputs(graph, call.inputs, f"{call.name}/")
            self._models[id(call.operation)] = (call.inputs, outputs)
        first, outputs = self._models[id(call.operation)]
        for one, other in zip(first, call.inputs, strict=True):
            for a, b in zip(one, other, strict=True):
                if a is not None or b is not None:
                    reason = f"{call.name!r} is also called with values that always stay"
                    self._trace.channels.tie(a, b, reason)
        return outputs


def inner_graph(operation: Any) -> Any:
    """Returns the graph of a model inside of a model, or None for anything else."""
    if not isinstance(operation, keras.Model):
        return None
    try:
        return graph_of(operation)
    except ValueError:
        return None


def input_layer_of(graph: Any, tensor: Any) -> Any:
    """Returns the input layer of a graph that a tensor comes from."""
    layers = [op for op in graph.operations if isinstance(op, keras.layers.InputLayer)]
    (found,) = [layer for layer in layers if layer.output is tensor]
    return found


def _require_sizes(call: Call, tensor: Any, labels: Labels) -> None:
    sizes = [None if numbers is None else len(numbers) for numbers in labels]
    wrong = [s for s, d in zip(sizes, tensor.shape, strict=True) if s is not None and s != d]
    if wrong:
        raise RuntimeError(
            f"The rule for {call.name!r} gives labels of sizes {sizes} to an output of shape "
            f"{tuple(tensor.shape)}."
        )
