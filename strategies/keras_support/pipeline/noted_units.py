"""Notes in a graph which of its operations are a unit of a pipeline, for who looks at it later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from strategies.keras_support.pipeline.schedule import Unit

_COLLECTION = "tfscale_units"


@contextlib.contextmanager
def noted(unit: Unit) -> Iterator[None]:
    """Notes the operations that are traced inside; eagerly there is nothing to note."""
    if tf.executing_eagerly():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    first = len(graph.get_operations())
    yield
    graph.add_to_collection(_COLLECTION, (unit, first, len(graph.get_operations())))


def noted_units(graph: Any) -> list[tuple[Unit, int, int]]:
    """Returns the units of a graph, each with the number of its first operation and the next after.

    Args:
        graph: Of a traced step.
    """
    return list(graph.get_collection(_COLLECTION))
