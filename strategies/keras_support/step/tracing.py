"""Traces a training step as a graph, to inspect and compile but not to run; for preflight.

The same `on_replica_function` as in `step_function` is traced inside `strategy.run`, so the graph
contains what training contains: the user's step, the reduction, the optimizer, the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.batch_parts import num_rows, static_rows
from strategies.global_batches import EvenReplicaBatch, ReplicaBatch
from strategies.keras_support.state.batch_norm import moving_statistics
from strategies.keras_support.step.microbatches import train_step_of
from strategies.keras_support.step.replica_step import (
    graph_function,
    on_replica_function,
    without_static_rows,
)


@dataclass(frozen=True)
class TracedStep:
    """One replica's step, traced.

    Attributes:
        function: A `tf.function` of the flat parts of a replica's batch, to be compiled by XLA.
        specs: Their specifications.
        graph: The graph, a `tf.Graph`.
    """

    function: Any
    specs: tuple[Any, ...]
    graph: Any

    def compiled(self, stage: str) -> Any:
        """Returns the output of XLA's CPU compiler; TensorFlow's kernels decide what it accepts.

        Args:
            stage: "hlo" for text; "hlo_serialized" for the bytes of an `HloModuleProto`.

        Raises:
            tf.errors.OpError, ValueError: If XLA refuses the step.
        """
        return self.function.experimental_get_compiler_ir(*self.specs)(stage=stage)


def traced_train_step(
    model: Any,
    batch: Any,
    *,
    rows_vary: bool = False,
    for_xla: bool = True,
    train_step: Callable[[Any], Any] | None = None,
) -> TracedStep:
    """Builds a model and traces the training step of one of its replicas.

    Args:
        model: A compiled Keras model under a strategy of this package.
        batch: Structure of `tf.TypeSpec` of one replica's batch, as `train_step` takes it; None for
            a part that is not there.
        rows_vary: Whether the number of rows varies, so that `fit` traces a step without a static
        number of rows. XLA knows the number of the batch that it compiles for.
        for_xla: Whether XLA is to compile it; else TensorFlow's executor is to run it. XLA knows no
            control edges, so what waits by one is in another order there.
        train_step: Computes a replica batch; None is the model's own, or in its microbatches.

    Raises:
        ValueError: If the model cannot be trained under its strategy.
        Exception: Whatever the model raises while it is traced.
    """
    build(model, batch)
    own = train_step or train_step_of(model)
    on_replica = on_replica_function(model, own, statistics=moving_statistics)

    def step(data: Any) -> Any:
        if not rows_vary:
            return on_replica(EvenReplicaBatch(data) if static_rows(data) else data)
        rows = tf.cast(num_rows(data), tf.int32)
        replicas = model.distribute_strategy.num_replicas_in_sync
        return on_replica(ReplicaBatch(without_static_rows(data), rows, rows * replicas))

    return _traced(model.distribute_strategy, step, batch, for_xla)


def traced_forward_pass(model: Any, batch: Any) -> TracedStep:
    """Traces only the model, on the inputs of a batch: for a step that cannot be traced.

    Args:
        model: A Keras model under a strategy of this package.
        batch: See `traced_train_step`.
    """
    inputs = batch[0] if isinstance(batch, tuple) else batch
    return _traced(model.distribute_strategy, lambda x: model(x, training=True), inputs)


def needed_operations(graph: Any, targets: Iterable[Any]) -> list[Any]:
    """Returns the operations that targets and effects of a graph depend on, in their order.

    Args:
        graph: Of a traced function.
        targets: Tensors of it; what is none is left out.
    """
    left = [target.op for target in targets if isinstance(target, tf.Tensor)]
    left += graph.control_outputs
    needed = set()
    while left:
        operation = left.pop()
        if operation not in needed:
            needed.add(operation)
            left += [tensor.op for tensor in operation.inputs]
            left += operation.control_inputs
    return [operation for operation in graph.get_operations() if operation in needed]


def build(model: Any, batch: Any) -> None:
    """Makes the variables of model, optimizer and metrics, as `fit` does, outside of the graph.

    Raises:
        ValueError: If the model cannot be trained under its strategy.
    """
    model._maybe_symbolic_build(data_batch=batch)


def _traced(
    strategy: tf.distribute.Strategy, step: Callable[[Any], Any], batch: Any, for_xla: bool = True
) -> TracedStep:
    parts = tf.nest.flatten(batch)
    specs = tuple(part for part in parts if part is not None)

    # Flat, because TensorFlow hands no structure to its compiler.
    def flat_step(*given: Any) -> Any:
        left = iter(given)
        data = [None if part is None else next(left) for part in parts]
        return strategy.run(step, args=(tf.nest.pack_sequence_as(batch, data),))

    function = graph_function(flat_step, jit_compile=for_xla)
    return TracedStep(function, specs, function.get_concrete_function(*specs).graph)
