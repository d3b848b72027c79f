"""The bytes that the collectives of a training step move, counted in its graph.

    moved = tfscale.monitor.training_collectives(model, (x[:32], y[:32]))
    moved.sent    # bytes that each replica sends in a step

An all-reduce of N bytes over a ring of n replicas has each of them send 2 (n - 1) / n N bytes, and
receive as many: (n - 1) / n N to add up, and as many to spread the sums. No algorithm sends less
from every replica. A gather of N bytes from each has each send (n - 1) N.

Source: Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms for clusters of
workstations, https://doi.org/10.1016/j.jpdc.2008.09.002.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import needed_operations
from tfscale.monitor.called_graphs import CONDITIONS, LOOPS, called_graphs, calls
from tfscale.monitor.step_graph import step_graph
from tfscale.monitor.turns import turns_of

_ALL_REDUCE = {"CollectiveReduce", "CollectiveReduceV2", "CollectiveReduceV3", "NcclAllReduce"}
_GATHER = {"CollectiveGather", "CollectiveGatherV2"}
_SPREAD = {"CollectiveReduceScatterV2", "CollectiveAllToAllV2", "CollectiveAllToAllV3"}
_SEND = {"CollectiveBcastSend", "CollectiveBcastSendV2"}
_OF_MPI = {"mpi_all-reduce": "MPI all-reduce", "mpi_all-gather": "MPI all-gather"}
"""By the name that `strategies.collectives.mpi_launcher` gives an operation of Python."""
_PYTHON = ("PyFunc", "EagerPyFunc")


@dataclass(frozen=True)
class Collectives:
    """The collectives of a training step, in bytes of one replica.

    Attributes:
        replicas: Replicas that reduce together.
        given: Bytes of the tensors that a replica hands over, by type of operation.
        sent: Bytes that a replica sends for them in a ring: by this it is known how much has to
            travel. MPI's library may send more for small tensors. 0 with one replica.
        unknown: Collectives whose size depends on the data, such as sparse gradients, by type.
    """

    replicas: int
    given: Mapping[str, int] = field(default_factory=dict)
    sent: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether `sent` has all that the replicas exchange."""
        return not self.unknown and (self.replicas == 1 or bool(self.given))


def training_collectives(model: keras.Model, batch: Any) -> Collectives:
    """Counts the bytes that the replicas of a training step exchange in collectives.

    The step is traced once more, as `training_flops` does. What devices of one process copy by
    themselves is no collective: the pieces of a pipeline or of divided matrices, and the all-reduce
    of `all_reduce="reduction_to_one_device"` or `"hierarchical_copy"`.

    Args:
        model: A compiled model under a tfscale strategy.
        batch: One replica's batch as `train_step` takes it, usually `(x, y)`: arrays, tensors or
            `tf.TypeSpec` of known shapes.

    Raises:
        ValueError: If the model is not under a tfscale strategy, or a shape is not known.

    Example:
        >>> strategy = strategies.mirrored_strategy(num_replicas=2)
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        ...     model.compile("sgd", "mse")
        >>> moved = training_collectives(model, (tf.TensorSpec([8, 3]), tf.TensorSpec([8, 2])))
        >>> moved.given, moved.sent  # 6 + 2 weights and the loss, of 4 bytes
        ({'CollectiveReduceV2': 36}, 36)
    """
    graph = step_graph(model, batch, "training_collectives")
    return collectives_of(graph, model.distribute_strategy)


def collectives_of(graph: Any, strategy: tf.distribute.Strategy) -> Collectives:
    """Counts the collectives of a traced step, which has all replicas of this process.

    Args:
        graph: Of the step.
        strategy: The strategy it was traced under.
    """
    replicas = strategy.num_replicas_in_sync
    found = _found(graph)
    local = len(strategy.extended.worker_devices)
    return Collectives(
        replicas,
        {kind: given // local for kind, given in found.given.items()},
        round(sum(found.sent(replicas).values()) / local),
        dict(found.unknown),
    )


class _Found:
    """What a graph hands to collectives: bytes by type."""

    def __init__(self) -> None:
        self.given: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()

    def add(self, other: _Found, times: int = 1) -> None:
        self.given.update({kind: given * times for kind, given in other.given.items()})
        self.unknown.update(other.unknown)

    def sent(self, replicas: int) -> dict[str, Fraction]:
        return {kind: given * _part_sent(kind, replicas) for kind, given in self.given.items()}


def _found(graph: Any) -> _Found:
    found = _Found()
    for op in needed_operations(graph, graph.outputs):
        if kind := _kind(op):
            size = _bytes(op.inputs[0])
            if size is None:
                found.unknown[kind] += 1
            else:
                found.given[kind] += size
        elif calls(op):
            _add_call(found, op)
    return found


def _add_call(found: _Found, op: Any) -> None:
    graphs = [graph for graph in called_graphs(op) if graph is not None]
    inside = [_found(graph) for graph in graphs]
    if op.type in LOOPS:
        turns = turns_of(op)
        for each in inside:
            if turns is None and each.given:
                found.unknown[op.type] += 1
            else:
                found.add(each, turns or 0)
    elif op.type in CONDITIONS:  # the most that can run
        found.add(max(inside, key=lambda each: each.given.total(), default=_Found()))
    else:
        for each in inside:
            found.add(each)


def _kind(op: Any) -> str:
    if op.type in _ALL_REDUCE | _GATHER | _SPREAD | _SEND:
        return str(op.type)
    if op.type in _PYTHON:
        own = op.name.rpartition("/")[2]
        return next((kind for name, kind in _OF_MPI.items() if own.startswith(name)), "")
    return ""


def _bytes(tensor: Any) -> int | None:
    elements = tensor.shape.num_elements()
    return None if elements is None else int(elements) * int(tensor.dtype.size)


def _part_sent(kind: str, replicas: int) -> Fraction:
    """Returns what a replica sends of each byte that it hands over."""
    others = replicas - 1
    if kind in _GATHER or kind == _OF_MPI["mpi_all-gather"]:
        return Fraction(others)
    if kind in _SPREAD:
        return Fraction(others, replicas)
    if kind in _SEND:
        return Fraction(min(1, others))
    return Fraction(2 * others, replicas)
