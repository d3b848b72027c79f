"""Traces the training step of one replica, with all-reduces, as a program for the chip."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from strategies.extension import TpuStandIn, all_layers, spec_with_rows, traced_train_step
from tfscale.preflight.ahead_of_time.program import (
    BATCH,
    METRICS,
    OPTIMIZER_STATE,
    PARAMETERS,
    Argument,
    Program,
    arrays_made,
)


class ReplicaOfMany(TpuStandIn):
    """A strategy for tracing one replica's step with its all-reduces. It cannot run the step.

    `TpuStandIn` claims to be one of N replicas and sums only over itself. The chip's compiler must
    also see the all-reduces, which need buffers and keep their inputs alive. All replicas run the
    same program, in which this replica's index is 0: that changes a few constants, but no sizes.

    Args:
        num_replicas: Number of replicas to simulate. Positive.

    Example:
        >>> ReplicaOfMany(num_replicas=4).num_replicas_in_sync
        4
    """

    def __init__(self, num_replicas: int) -> None:
        super().__init__(num_replicas)
        # TensorFlow then reduces in the replica's graph, as for XLA on GPUs, and not across
        # replicas, because there is only one here.
        self.extended._use_merge_call = lambda: False
        self.extended._replica_ctx_all_reduce = self._all_reduce

    def _all_reduce(self, reduce_op: Any, value: Any, options: Any = None) -> Any:
        """Adds XLA's all-reduce over all replicas to the graph, like TPUStrategy."""
        replicas = self.num_replicas_in_sync
        everyone = [list(range(replicas))]

        def total(part: tf.Tensor) -> tf.Tensor:
            if part.dtype == tf.float64:
                # A TPU has no float64 and emulates it with a pair of float32.
                high = tf.cast(part, tf.float32)
                low = tf.cast(part - tf.cast(high, part.dtype), tf.float32)
                return tf.cast(total(high), part.dtype) + tf.cast(total(low), part.dtype)
            # TPUStrategy's operation, CrossReplicaSum, has no CPU kernel. This one gives XLA the
            # same all-reduce.
            return gen_xla_ops.xla_all_reduce(
                part, group_assignment=everyone, reduce_op="Add", mode="CrossReplica"
            )

        def reduced(part: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
            summed = total(tf.convert_to_tensor(part))  # TPUStrategy also makes slices dense
            is_mean = reduce_op == tf.distribute.ReduceOp.MEAN
            return summed / tf.cast(replicas, summed.dtype) if is_mean else summed

        return tf.nest.map_structure(reduced, value)


@contextlib.contextmanager
def layer_scopes(layers: list[Any]) -> Iterator[dict[str, str]]:
    """Records in which scope of a traced step each Keras layer is called.

    TensorFlow numbers the second use of a name in a graph, and Keras uses a layer's name twice:
    layer `conv2d` is called in the scope `conv2d_1`, which may also be the name of another layer.
    So the scopes are recorded during tracing and not derived from names.

    Args:
        layers: The Keras layers of the model.

    Yields:
        A dictionary from scope to the layer's path, filled as layers are called. A layer that was
        never built has no path and is listed by its name.
    """
    scopes: dict[str, str] = {}

    def noting(layer: Any, call: Any) -> Any:
        @functools.wraps(call)
        def noted(*args: Any, **kwargs: Any) -> Any:
            scope = tf.get_current_name_scope()
            if scope:
                scopes.setdefault(scope, layer.path or layer.name)
            return call(*args, **kwargs)

        return noted

    held = {id(layer): (layer, vars(layer).get("call")) for layer in layers}
    for layer, _ in held.values():
        layer.call = noting(layer, layer.call)
    try:
        yield scopes
    finally:
        for layer, own in held.values():
            if own is None:
                del layer.call
            else:
                layer.call = own


_LARGEST = 8
_NUMBERED = re.compile(r"(_inference_\w+?)_\d+__")
_SOURCE = re.compile(r' source_\w+=("[^"]*"|\d+)')


def traced_program(model: Any, batch: Any, rows: int, *, rows_vary: bool = False) -> Program:
    """Traces the training step of one replica of `model`, with TensorFlow's XLA.

    Args:
        model: A compiled Keras model that was made under a `ReplicaOfMany`.
        batch: Structure of `tf.TypeSpec` of one replica's batch, as for `traced_train_step`.
        rows: Number of examples to trace for, in place of that in `batch`. Positive.
        rows_vary: See `traced_train_step`.

    Raises:
        tf.errors.OpError, ValueError: If XLA rejects the step.
    """
    strategy = model.distribute_strategy
    with strategy.scope(), layer_scopes(all_layers(model)) as scopes:
        step = traced_train_step(model, spec_with_rows(batch, rows), rows_vary=rows_vary)
    concrete = step.function.get_concrete_function(*step.specs)
    kinds = dict(_kinds(model))
    given = [Argument(BATCH)] * len(step.specs)
    captured = [kinds.get(id(handle), Argument(METRICS)) for handle in concrete.captured_inputs]
    text = step.compiled("hlo")
    return Program(
        hlo=step.compiled("hlo_serialized"),
        fingerprint=_fingerprint(text),
        num_replicas=strategy.num_replicas_in_sync,
        rows=rows,
        arguments=(*given, *captured),
        scopes=dict(scopes),
        optimizer=model.optimizer.name,
        largest=_largest(text),
    )


def program_maker(
    model: Any, batch: Any, say: Callable[[str], None], *, rows_vary: bool = False
) -> Callable[[int], Program]:
    """Returns a function that traces the step of `model` for a number of examples per replica."""

    def make(rows: int) -> Program:
        say(f"tracing the step of one replica, {rows} examples")
        return traced_program(model, batch, rows, rows_vary=rows_vary)

    return make


def _fingerprint(text: str) -> str:
    """Returns a hash of a step that does not depend on TensorFlow's numbering or installation.

    TensorFlow numbers functions in the order of tracing, and writes the source files of operations
    into the text. Large constants are not in the text; their values do not change the memory.
    """
    return hashlib.sha256(_SOURCE.sub("", _NUMBERED.sub(r"\1", text)).encode()).hexdigest()


def _largest(text: str) -> tuple[tuple[str, int], ...]:
    """Returns the operations that create the largest arrays, before fusion."""
    sizes: dict[str, int] = {}
    for made in arrays_made(text):
        sizes[made.operation] = max(sizes.get(made.operation, 0), made.array.written_bytes)
    ordered = sorted(sizes.items(), key=lambda item: item[1], reverse=True)
    return tuple(ordered[:_LARGEST])


def _kinds(model: Any) -> Iterator[tuple[int, Argument]]:
    """Yields the handle and the purpose of each variable."""
    for variable in model.variables:
        yield _handle(variable), Argument(PARAMETERS, variable.path.rpartition("/")[0])
    for variable in model.metrics_variables:
        yield _handle(variable), Argument(METRICS)
    for variable in model.optimizer.variables:
        yield _handle(variable), Argument(OPTIMIZER_STATE)


def _handle(variable: keras.Variable) -> int:
    return id(variable.value.handle)
