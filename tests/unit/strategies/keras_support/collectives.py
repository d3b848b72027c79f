"""How often replicas meet: the collectives in the graphs that a model's layers were traced in."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class GraphWatch(keras.layers.Layer):
    """Passes its input on and remembers in which graphs it was traced."""

    def build(self, input_shape: Any) -> None:
        self.graphs: list[Any] = []

    def call(self, inputs: Any) -> Any:
        self.graphs.append(tf.compat.v1.get_default_graph())
        return inputs

    @property
    def step_collectives(self) -> list[str]:
        """Those of the graph in which the training step was traced last."""
        found = [names for graph in self.graphs if (names := collectives_in(graph))]
        return found[-1] if found else []


def collectives_in(graph: Any) -> list[str]:
    """The operations that add up or gather over replicas, in a graph and in all that it calls."""
    names = [operation.type for operation in graph.get_operations()]
    for function in graph.as_graph_def().library.function:
        names += [node.op for node in function.node_def]
    return [name for name in names if name.startswith("Collective")]
