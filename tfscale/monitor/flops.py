"""The floating-point operations of a training step, counted in its graph.

    flops = tfscale.monitor.training_flops(model, (x[:32], y[:32]))
    flops.total / seconds_per_step / peak    # model FLOPs utilization

Counted are products of matrices and convolutions, forward and backward, as in the usual formula of
model FLOPs utilization. What is left out is named: operations on single elements, such as
activations, and the optimizer by that convention (`not_counted`), and what hides its size
(`unknown`). Layers that are computed twice to save memory count once.

Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import needed_operations
from tfscale.monitor.called_graphs import LOOPS, called_graphs, calls
from tfscale.monitor.operation_flops import COUNTED, OPAQUE, flops_of
from tfscale.monitor.step_graph import step_graph
from tfscale.monitor.turns import turns_of

_BOOKKEEPING = """
Arg Assert Const EmptyTensorList EnsureShape Identity IdentityN NoOp Placeholder PreventGradient
ReadVariableOp Shape ShapeN Snapshot StopGradient VarHandleOp VariableShape
"""
_IGNORED = frozenset(_BOOKKEEPING.split())


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a step: two for a multiplication and an addition.

    Attributes:
        by_type: By type of operation, such as `"MatMul"`.
        not_counted: Operations of the graph that are not products of matrices or convolutions, by
            type. They count as 0.
        unknown: Operations that may multiply matrices and count as 0, by type: their sizes, or the
            turns of the loop that they are in, depend on the data, or their work cannot be seen.
    """

    by_type: Mapping[str, int]
    not_counted: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Of the whole step."""
        return sum(self.by_type.values())


def training_flops(model: keras.Model, batch: Any) -> Flops:
    """Counts the floating-point operations of one replica's training step.

    The step is traced once more, which takes about as long as the first step of `fit` does before
    it runs. Nothing is computed. A model that is not built is built.

    Args:
        model: A compiled model under a tfscale strategy.
        batch: One replica's batch as `train_step` takes it, usually `(x, y)`: arrays, tensors or
            `tf.TypeSpec` of known shapes.

    Raises:
        ValueError: If the model is not under a tfscale strategy, or a shape is not known.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        ...     model.compile("sgd", "mse")
        >>> batch = tf.TensorSpec([8, 3]), tf.TensorSpec([8, 2])
        >>> training_flops(model, batch).total  # 2 x 8 x 3 x 2, forward and for the kernel
        192
    """
    graph = step_graph(model, batch, "training_flops")
    return flops_in(graph, model.distribute_strategy)


def flops_in(graph: Any, strategy: tf.distribute.Strategy) -> Flops:
    """Counts the operations of a traced step, which has all replicas of this process.

    Args:
        graph: Of the step.
        strategy: The strategy it was traced under.
    """
    count = _Count()
    count.add(graph, graph.outputs, 1)
    replicas = len(strategy.extended.worker_devices)  # each is in the graph
    return Flops(
        {kind: number // replicas for kind, number in count.flops.items() if number},
        dict(count.not_counted),
        dict(count.unknown),
    )


class _Count:
    """What was counted so far, by type of operation."""

    def __init__(self) -> None:
        self.flops: Counter[str] = Counter()
        self.not_counted: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()

    def add(self, graph: Any, targets: Sequence[Any], times: int) -> None:
        """Counts what targets and effects of a graph depend on.

        Args:
            graph: Of a function.
            targets: Tensors of it.
            times: How often it runs.
        """
        operations = needed_operations(graph, targets)
        used = _read_by(operations) | {tensor.ref() for tensor in targets}
        for op in operations:
            if calls(op):
                live = {place for place, made in enumerate(op.outputs) if made.ref() in used}
                self._add_call(op, live, times)
            elif op.type in COUNTED and (found := flops_of(op)) is not None:
                self.flops[op.type] += found * times
            elif op.type in COUNTED or op.type in OPAQUE:
                self.unknown[op.type] += 1
            elif op.type not in _IGNORED:
                self.not_counted[op.type] += 1

    def _add_call(self, op: Any, live: set[int], times: int) -> None:
        graphs = called_graphs(op)
        if None in graphs:
            self.unknown[op.type] += 1
        elif op.type in LOOPS:
            condition, body = graphs
            self._add_loop(op, condition, body, live, times)
        else:  # of a condition the branch with most operations, which is the most that can run
            bodies = [_counted(graph, live) for graph in graphs]
            self._take(max(bodies, key=lambda body: body.flops.total()), times)

    def _add_loop(self, op: Any, condition: Any, body: Any, live: set[int], times: int) -> None:
        # A turn computes what is read after the loop, or by the condition, or by another turn for
        # one of these. The gradient of an input that is no parameter is none of them.
        deciding = _read_by(needed_operations(condition, condition.outputs))
        live |= {place for place, given in enumerate(condition.inputs) if given.ref() in deciding}
        before: set[int] = set()
        while live != before:
            before = set(live)
            read = _read_by(needed_operations(body, [body.outputs[place] for place in live]))
            live |= {place for place, given in enumerate(body.inputs) if given.ref() in read}
        turn, turns = _counted(body, live), turns_of(op)
        if turns is not None:
            self._take(turn, times * turns)
        elif turn.flops or turn.unknown:
            self.unknown[op.type] += 1  # with all that is in it
        else:
            self._take(turn, times)

    def _take(self, other: _Count, times: int) -> None:
        self.flops.update({kind: number * times for kind, number in other.flops.items()})
        self.not_counted.update(other.not_counted)
        self.unknown.update(other.unknown)


def _counted(graph: Any, live: set[int]) -> _Count:
    """Returns the count of a function's graph, for the outputs that are read."""
    count = _Count()
    count.add(graph, [tensor for place, tensor in enumerate(graph.outputs) if place in live], 1)
    return count


def _read_by(operations: Iterable[Any]) -> set[Any]:
    """Returns references to the tensors that operations read."""
    return {tensor.ref() for op in operations for tensor in op.inputs}
