"""The graph of a step lets gathered parameters go: what stage 3 saves depends on it.

The oracle is the graph alone. A tensor "is of parameters" if it was computed from parts of
parameters and constants only. Operations of the backward pass have names that begin with the
tape's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.collectives import GraphWatch

pytestmark = [pytest.mark.own_process, pytest.mark.thorough]

L = keras.layers
DRAW = np.random.default_rng(3)
TAPE = "gradient_tape/"
FIRST = 0.6
"""Largest part of the parameters that the first two layers of these models have."""


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2, shard=3)


def dense_layers() -> tuple[Any, GraphWatch]:
    watch = GraphWatch(dtype="float32")
    layers = [L.Dense(6, "tanh", kernel_regularizer="l2") for _ in range(5)]
    return keras.Sequential([keras.Input((6,)), watch, *layers]), watch


def low_precision() -> tuple[Any, GraphWatch]:
    watch = GraphWatch(dtype="float32")
    layers = [L.Dense(6, "relu", dtype="mixed_bfloat16") for _ in range(5)]
    return keras.Sequential([keras.Input((6,)), watch, *layers]), watch


def attention() -> tuple[Any, GraphWatch]:
    watch = GraphWatch(dtype="float32")
    rows = keras.Input((6,))
    x = L.Reshape((3, 2))(watch(rows))
    for _ in range(3):
        x = x + L.MultiHeadAttention(2, 3)(L.LayerNormalization()(x), x)
        x = x + L.Dense(2)(L.Dense(8, "gelu")(x))
    return keras.Model(rows, L.Flatten()(x)), watch


def convolutions() -> tuple[Any, GraphWatch]:
    watch = GraphWatch(dtype="float32")
    rows = keras.Input((6,))
    x = L.Reshape((3, 2, 1))(watch(rows))
    for _ in range(3):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 2, padding="same")(x)))
    return keras.Model(rows, L.Dense(6)(L.Flatten()(x))), watch


MODELS = (dense_layers, low_precision, attention, convolutions)


def step_graph(
    strategy: tf.distribute.Strategy, build: Callable[[], tuple[Any, GraphWatch]]
) -> Any:
    """Trains a step; returns its graph."""
    with strategy.scope():
        model, watch = build()
        model.compile("adam", "mse", jit_compile=False)
    x = DRAW.normal(size=(8, 6)).astype("float32")
    model.fit(x, x, batch_size=8, shuffle=False, verbose=0)
    return [g for g in watch.graphs if any(TAPE in op.name for op in g.get_operations())][-1]


def is_backward(operation: Any) -> bool:
    return bool(operation.name.startswith(TAPE))


def reads_of(gather: Any) -> list[Any]:
    """The reads of parts that an operation joins, if it does nothing else."""
    if gather.type != "ConcatV2":
        return []
    parts = [t.op for t in gather.inputs if t.op.type != "Const"]
    reads = [op.inputs[0].op if op.type == "Identity" else op for op in parts]
    return reads if all(read.type == "ReadVariableOp" for read in reads) else []


def of_parameters(graph: Any) -> set[str]:
    """Names of tensors of the forward pass that are of parameters: gathered, cast, squared."""
    gathers = [op for op in graph.get_operations() if reads_of(op) and not is_backward(op)]
    # With the parts, because the identity of a gradient function has them too.
    found = {t.name for op in gathers for read in reads_of(op) for t in read.outputs}
    for operation in graph.get_operations():  # in the order in which they were made
        data = [t for t in operation.inputs if t.op.type != "Const"]
        if not is_backward(operation) and data and all(t.name in found for t in data):
            found.update(t.name for t in operation.outputs)
    return found


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_no_gradient_uses_what_the_forward_pass_has_gathered(
    strategy: tf.distribute.Strategy, build: Callable[[], tuple[Any, GraphWatch]]
) -> None:
    graph = step_graph(strategy, build)
    kept = of_parameters(graph)
    gathers = [op for op in graph.get_operations() if reads_of(op)]
    again = [op for op in gathers if is_backward(op)]
    assert len(kept) >= len(gathers) - len(again) > 8
    assert len(again) > 4
    late = [
        (operation.name, tensor.name)
        for operation in graph.get_operations()
        if is_backward(operation) and not operation.type.startswith("Shape")
        for tensor in operation.inputs
        if tensor.name in kept and tensor.shape.rank
    ]
    assert late == []
    # A gather of the backward pass waits for a gradient, all but the first ones of the forward
    # pass for an earlier layer.
    assert [op.name for op in again if not waits(op)] == []
    too_early = [
        (op.name, other.name)
        for op in gathers
        if not is_backward(op)
        for read in reads_of(op)
        for other in read.control_inputs
        if other.outputs and all(t.name in kept and is_read(t) for t in other.outputs)
    ]
    assert too_early == []
    at_once = [op for op in gathers if not is_backward(op) and not waits(op)]
    assert len(at_once) < (len(gathers) - len(again)) * FIRST


def is_read(tensor: Any) -> bool:
    """Whether an operation of the forward pass reads a tensor, which is no sum of a penalty."""
    return tensor.shape.rank > 0 and any(not is_backward(op) for op in tensor.consumers())


def waits(gather: Any) -> bool:
    return all(read.control_inputs for read in reads_of(gather))
