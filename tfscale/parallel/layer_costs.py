"""What each operation of a model costs: time and memory, measured on a few rows."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import call_of_node, inputs_of, nodes_in_order

_ROWS = 8
_UNKNOWN = 8
_ROUNDS = 3


@dataclass(frozen=True)
class OperationCost:
    """One call of an operation.

    Attributes:
        name: Of the layer or operation.
        seconds: Forward and backward pass on a few rows, the fastest of three.
        bytes: Of its weights, with gradients and two slots, and of what it computes on these rows;
            of weights that were used before only a copy and its gradient.
    """

    name: str
    seconds: float
    bytes: int


def measured_costs(graph: Any, example: Any = None) -> list[OperationCost]:
    """Runs each operation of a model by itself, eagerly, on this replica's first device.

    Nothing of the model changes: what layers assign is dropped.

    Args:
        graph: The model's graph of operations.
        example: Inputs of a few rows; None makes zeros, 8 rows and 8 wherever a dimension is not
            known.

    Raises:
        ValueError: If an operation cannot be run on zeros.
    """
    # In a thread, which is in no scope: a strategy's takes no gradients outside of steps.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_measured, graph, example).result()


def _measured(graph: Any, example: Any) -> list[OperationCost]:
    given = _zeros(graph) if example is None else inputs_of(graph, example)
    if any(value.shape[:1] == (0,) for value in given):
        raise ValueError(
            "`example` must have at least one row, because layers are measured with it. Received: "
            "inputs of 0 rows. Pass a few rows, or leave it out."
        )
    known = {id(t): value for t, value in zip(graph.inputs, given, strict=True)}
    costs, seen = [], set[int]()
    for node in nodes_in_order(graph):
        name = node.operation.name
        try:
            outputs, seconds = _timed(node, known)
        except Exception as error:
            raise ValueError(
                "`stages` must be the names of layers at which stages begin, or `example` inputs "
                f"of a few rows, where a layer cannot run on zeros. Received: layer {name!r}, "
                f"which fails: {type(error).__name__}: {error}."
            ) from error
        known |= {
            id(t): value for t, value in zip(node.outputs, keras.tree.flatten(outputs), strict=True)
        }
        costs.append(OperationCost(name, seconds, bytes_of(node, outputs, seen)))
    return costs


def bytes_of(node: Any, outputs: Any, seen: set[int]) -> int:
    """Returns the bytes of an `OperationCost`.

    Args:
        node: Of the model's graph.
        outputs: What it makes; symbolic tensors count 8 wherever a dimension is not known.
        seen: The `id` of each weight that was used before; its own are added.
    """
    weights = getattr(node.operation, "weights", [])
    held = sum((2 if id(w) in seen else 4) * _bytes(w.shape, w.dtype) for w in weights)
    seen.update(map(id, weights))
    return held + sum(_bytes(t.shape, t.dtype) for t in keras.tree.flatten(outputs))


def _timed(node: Any, known: dict[int, Any]) -> tuple[Any, float]:
    """Returns what a call computes, and how long forward and backward pass take."""
    best = float("inf")
    entering = [known[id(t)] for t in node.input_tensors]
    floats = [t for t in entering if t is not None and t.dtype.is_floating]
    weights = [w.value for w in getattr(node.operation, "trainable_weights", [])]
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        with keras.StatelessScope(), tf.GradientTape() as tape:
            tape.watch(floats)
            outputs = call_of_node(node, known, training=False)
            targets = [t for t in keras.tree.flatten(outputs) if t.dtype.is_floating]
        if targets and (floats or weights):
            tape.gradient(targets, [*floats, *weights])
        best = min(best, time.perf_counter() - begin)
    return outputs, best


def _zeros(graph: Any) -> list[tf.Tensor]:
    return [
        tf.zeros(
            [_ROWS, *(_UNKNOWN if size is None else size for size in t.shape[1:])],
            tf.as_dtype(t.dtype),
        )
        for t in graph.inputs
    ]


def _bytes(shape: Any, dtype: Any) -> int:
    known = [_UNKNOWN if size is None else int(size) for size in shape]
    return int(np.prod(known, dtype="int64")) * int(tf.as_dtype(dtype).size)
