"""The number of collectives in the graphs in which the layers of a model were traced."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class GraphWatch(keras.layers.Layer):
    """Returns its input and records in which graphs it was traced."""

    def build(self, input_shape: Any) -> None:
        self.graphs: list[Any] = []

    def call(self, inputs: Any) -> Any:
        self.graphs.append(tf.compat.v1.get_default_graph())
        return inputs

    @property
    def step_collectives(self) -> list[str]:
        """Returns the collectives of the last traced graph of the training step."""
        found = [names for graph in self.graphs if (names := collectives_in(graph))]
        return found[-1] if found else []


def collectives_in(graph: Any) -> list[str]:
    """Returns the operations that reduce or gather over replicas, in a graph and all it calls."""
    names = [operation.type for operation in graph.get_operations()]
    for function in graph.as_graph_def().library.function:
        names += [node.op for node in function.node_def]
    return [name for name in names if name.startswith("Collective")]
