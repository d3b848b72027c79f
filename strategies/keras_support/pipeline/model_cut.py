"""A Functional or Sequential model as a line of operations, cut into chunks.

Keras runs the operations of such a model in a fixed order, in which each comes after those that it
needs. A chunk is a run of that order. What it needs from earlier chunks, over however many cuts,
are its inputs: a skip connection goes directly from the chunk that computes it to the one that
uses it.

A layer that is used twice, and layers that share a weight, may be in several chunks: see
`shared_weights`. But what a layer assigns in `call`, moving statistics and the states of random
generators, it assigns in an order, which chunks on several devices do not keep. So there are places
where the order cannot be cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.models.functional import Functional

from strategies.keras_support.model.model_parts import all_layers


@dataclass(frozen=True)
class Chunk:
    """Consecutive operations of a model.

    Attributes:
        nodes: Keras's calls of operations, in order.
        inputs: The symbolic tensors that come from the model's inputs or earlier chunks.
        outputs: The symbolic tensors that later chunks need; of the last chunk the model's outputs
            that it computes.
    """

    nodes: tuple[Any, ...]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers directly in it."""
        operations = {id(n.operation): n.operation for n in self.nodes}
        return [op for op in operations.values() if isinstance(op, keras.layers.Layer)]

    @property
    def weights(self) -> list[Any]:
        """The weights of its layers."""
        found = {id(v): v for layer in self.layers for v in layer.weights}
        return list(found.values())


def graph_of(model: Any) -> Any:
    """Returns the graph of operations of a Functional or built Sequential model.

    Raises:
        ValueError: If the model has none, or its class calls layers in its own way.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    known = (Functional.call, keras.Sequential.call)
    if not isinstance(graph, Functional) or type(model).call not in known:
        state = "a subclass with its own `call`, or not built"
        raise ValueError(
            "`model` must be a Functional or a built Sequential model, whose graph of layers is "
            f"known. Received: {model.name!r} of class {type(model).__name__}, {state}. Make it as "
            "keras.Model(inputs, outputs), or begin a Sequential model with keras.Input."
        )
    return graph


def inputs_of(graph: Any, x: Any) -> list[Any]:
    """Returns the tensors of a batch in the order of the graph's inputs, as Keras's `call` does."""
    tensors: list[Any] = graph._standardize_inputs(x)
    return tensors


def nodes_in_order(graph: Any) -> list[Any]:
    """Returns the calls of operations in the order in which Keras runs them, without inputs."""
    by_depth = graph._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation and not node.is_input
    ]


def through_graph(graph: Any, inputs: Sequence[Any], call: Callable[..., Any]) -> list[Any]:
    """Returns what a model's graph computes if each call of an operation is replaced.

    Args:
        graph: From `graph_of`.
        inputs: In the order of the graph's inputs: tensors, or symbolic ones to build a new model.
        call: Called as `call(node, *arguments, **named)`, in the order of `nodes_in_order`; returns
            the node's outputs.

    Returns:
        The outputs, in the order of the graph's.
    """
    known = {id(t): value for t, value in zip(graph.inputs, inputs, strict=True)}
    for node in nodes_in_order(graph):
        arguments, named = node.arguments.fill_in(known)
        outputs = keras.tree.flatten(call(node, *arguments, **named))
        known |= {id(t): value for t, value in zip(node.outputs, outputs, strict=True)}
    return [known[id(t)] for t in graph.outputs]


def places_to_cut(nodes: Sequence[Any]) -> dict[int, str]:
    """Returns, for each place in the order, why it cannot be cut there; "" where it can.

    Place i is before node i; from 1 to the number of nodes - 1.
    """
    first: dict[int, int] = {}
    last: dict[int, tuple[int, str]] = {}
    for i, node in enumerate(nodes):
        for state in _assigned_by(node.operation):
            first.setdefault(id(state), i)
            last[id(state)] = (i, f"{state.path!r}, which layers assign, is used on both sides")
    reasons = dict.fromkeys(range(1, len(nodes)), "")
    for key, begin in first.items():
        end, reason = last[key]
        for place in range(begin + 1, end + 1):
            reasons[place] = reasons[place] or reason
    return reasons


def chunks_at(graph: Any, places: Sequence[int]) -> list[Chunk]:
    """Cuts a model.

    Args:
        graph: From `graph_of`.
        places: Where the second chunk begins, the third, and so on; ascending.
    """
    nodes = nodes_in_order(graph)
    edges = [0, *places, len(nodes)]
    runs = [nodes[a:b] for a, b in itertools.pairwise(edges)]
    made_in = {id(t): c for c, run in enumerate(runs) for node in run for t in node.outputs}
    needs: list[dict[int, Any]] = []
    for c, run in enumerate(runs):
        used = [t for node in run for t in node.input_tensors]
        if c == len(runs) - 1:
            used += graph.outputs
        needs.append({id(t): t for t in used if made_in.get(id(t)) != c})
    chunks = []
    for c, run in enumerate(runs):
        is_last = c == len(runs) - 1
        later = {id(t) for t in graph.outputs} if is_last else set().union(*needs[c + 1 :])
        made = [t for node in run for t in node.outputs if id(t) in later]
        chunks.append(Chunk(tuple(run), tuple(needs[c].values()), tuple(made)))
    return chunks


def _assigned_by(operation: Any) -> list[Any]:
    """Returns what a layer, or one in it, may assign in `call`: not weights, also if frozen."""
    if not isinstance(operation, keras.layers.Layer):
        return []
    trained = {id(v) for layer in all_layers(operation) for v in layer._trainable_variables}
    return [v for v in operation.variables if id(v) not in trained]
