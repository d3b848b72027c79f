"""Cuts masked channels out of a model: a smaller model with the same outputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from strategies.extension import (
    all_layers,
    compile_arguments,
    copy_trainable,
    graph_of,
    nodes_in_order,
    recomputation_of,
    restore_recomputation,
)
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import reason_of, value_of
from tfscale.preparation.recompilation import (
    own_compile_arguments,
    own_optimizer,
    parts_made_again,
    refuse_own_compile,
)
from tfscale.shrink.structured.groups import TracedGroups, traced_groups
from tfscale.shrink.structured.tracing import inner_graph, input_layer_of


def cut(model: keras.Model) -> keras.Model:
    """Returns a smaller model without the masked channels, with the outputs of the masked one.

    A channel is masked if all its weights are zero, as `mask_channels` leaves it. Layers get
    smaller sizes and the weights that remain. If all channels of a group are masked, one stays,
    because a layer needs one.

    The new model consists of plain Keras layers, and is compiled as `model` is. Its optimizer is a
    fresh one: slots of the old one, such as Adam's moments, are not taken along. Its losses count
    no penalty for what was cut; a random layer draws numbers of the new shapes. It is made in the
    current scope. `model` is not changed.

    Args:
        model: See `channel_groups`. With at least one masked channel.

    Returns:
        A `keras.Sequential` for one, otherwise a `keras.Model`.

    Raises:
        ValueError: If no channel is masked, the model's graph is not known, or a layer cannot be
            made from its config.

    Example:
        >>> layers = [keras.Input([2]), keras.layers.Dense(4, name="up"), keras.layers.Dense(1)]
        >>> model = keras.Sequential(layers)
        >>> _ = tfscale.shrink.mask_channels(model, 0.5)
        >>> cut(model).get_layer("up").units
        2
    """
    found = traced_groups(model)
    if not any(group.masked().any() for group in found.report.groups.values()):
        raise ValueError(
            f"`model` must have masked channels. Received: {model.name!r}, without any. Call "
            "mask_channels(model, fraction) first."
        )
    _refuse_hidden_weights(model)
    if model.compiled:
        refuse_own_compile(model)
    compiled = compile_arguments(model) if model.compiled else {}
    custom_objects = custom_objects_in([*all_layers(model), *parts_made_again(compiled)])
    with keras.saving.custom_object_scope(custom_objects):
        smaller = _Cut(found).of_model(model)
        if compiled:
            arguments = own_compile_arguments(compiled, model.dtype_policy, model.dtype_policy)
            smaller.compile(own_optimizer(compiled["optimizer"], None), **arguments)
    return smaller


class _Cut:
    """Makes the layers of the smaller model, each once, and calls them as the large model does."""

    def __init__(self, found: TracedGroups) -> None:
        self._trace = found.trace
        self._gone = _removed(found)
        self._twins: dict[int, Any] = {}

    def of_model(self, model: keras.Model) -> keras.Model:
        graph = graph_of(model)
        for operation in graph.operations:
            if id(operation) not in self._twins:
                self._twins[id(operation)] = self._twin(operation)
        if isinstance(model, keras.Sequential):
            layers = [input_layer_of(graph, graph.inputs[0]), *model.layers]
            smaller = keras.Sequential([self._twins[id(x)] for x in layers], name=model.name)
        else:
            known = {id(t): self._input(graph, t) for t in graph.inputs}
            for node in nodes_in_order(graph):
                arguments, named = node.arguments.fill_in(known)
                outputs = self._twins[id(node.operation)](*arguments, **named)
                for tensor, made in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
                    known[id(tensor)] = made
            inputs, outputs = keras.tree.map_structure(
                lambda tensor: known[id(tensor)], (graph.input, graph.output)
            )
            smaller = keras.Model(inputs, outputs, name=model.name)
        for operation in graph.operations:
            if isinstance(operation, keras.layers.Layer) and inner_graph(operation) is None:
                self._copy_state(operation, self._twins[id(operation)])
        copy_trainable(model, smaller)
        return smaller

    def _input(self, graph: Any, tensor: Any) -> Any:
        return self._twins[id(input_layer_of(graph, tensor))].output

    def _twin(self, operation: Any) -> Any:
        if inner_graph(operation) is not None:
            return self.of_model(operation)
        config = operation.get_config()
        for size in self._trace.sizes:
            if size.layer is operation:
                config[size.key] = self._sized(size.value)
        try:
            return type(operation).from_config(config)
        except Exception as error:  # a user's constructor may raise anything
            raise ValueError(
                "`model` must have layers that can be made from their configs. Received: "
                f"{operation.name!r} of class {type(operation).__name__}, {reason_of(error)}."
            ) from error

    def _sized(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._sized(part) for part in value)
        return int(self._stay(value).sum()) if isinstance(value, np.ndarray) else value

    def _stay(self, labels: Any) -> Any:
        """Tells which positions along an axis stay."""
        return ~np.isin(self._trace.channels.resolved(labels), self._gone)

    def _copy_state(self, layer: Any, twin: Any) -> None:
        values = [self._cut_value(variable) for variable in layer.variables]
        shapes = [tuple(variable.shape) for variable in twin.variables]
        if [value.shape for value in values] != shapes:
            raise ValueError(
                "`model` must have layers that their configs describe. Received: "
                f"{layer.name!r} of class {type(layer).__name__}, whose config makes weights of "
                f"other shapes: {shapes}."
            )
        for value, its_twin in zip(values, twin.variables, strict=True):
            its_twin.assign(value)
        for part, its_twin in zip(all_layers(layer), all_layers(twin), strict=True):
            copy_trainable(part, its_twin)
            restore_recomputation(its_twin, recomputation_of(part))

    def _cut_value(self, variable: Any) -> Any:
        value = value_of(variable)
        for axis in range(value.ndim):
            if known := self._trace.axes.get((id(variable), axis)):
                value = np.compress(self._stay(known.labels), value, axis)
        return value


def _removed(found: TracedGroups) -> Any:
    """Returns the resolved numbers of the channels that go: the masked ones, but for the last."""
    gone = []
    for name, group in found.report.groups.items():
        masked = group.masked()
        masked[0] &= not masked.all()
        gone.append(found.numbers[name][masked])
    return np.concatenate(gone)


def _refuse_hidden_weights(model: keras.Model) -> None:
    """Checks that all weights of a model are those of layers in its graph.

    Raises:
        ValueError: If some are not, which the smaller model would lose.
    """
    of_layers = {
        id(weight)
        for layer in graph_of(model).operations
        if isinstance(layer, keras.layers.Layer)
        for weight in layer.weights
    }
    if hidden := [weight.path for weight in model.weights if id(weight) not in of_layers]:
        raise ValueError(
            "`model` must have weights only in the layers of its graph. Received: "
            f"{model.name!r}, which also has {hidden[0]!r}."
        )
