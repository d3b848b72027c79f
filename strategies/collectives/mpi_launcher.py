"""The collectives of a strategy in its graph, run by MPI.

TensorFlow's strategy has a launcher for the collectives of each replica. `MpiLauncher` replaces
TensorFlow's ring, and everything above it stays: packs, sparse gradients, `strategy.gather`.

A collective is two operations of the graph: one starts it, the other waits. Each start takes a
ticket from a variable and leaves the next one there. Functions order what touches a variable, so
all starts are one chain, also over the iterations of a loop and over calls.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from strategies.collectives.ordered_collectives import Kind, OrderedCollectives
from strategies.coordination.launchers import ReplacedLauncher


class MpiLauncher(ReplacedLauncher):
    """Runs the collectives of this worker's replica with MPI.

    Args:
        launcher: The launcher that it replaces.
        collectives: The collectives of this worker, common to all launchers of the process.
        next_ticket: int64 variable on the CPU, common to all of them too.
    """

    def __init__(
        self, launcher: Any, collectives: OrderedCollectives, next_ticket: tf.Variable
    ) -> None:
        super().__init__(launcher)
        self._collectives = collectives
        self._next_ticket = next_ticket

    def all_reduce(
        self, input_tensor: Any, control_input: Any = None, options: Any = None
    ) -> tf.Tensor:
        """Adds up a dense tensor of one shape on all replicas.

        Raises:
            TypeError: If it does not contain numbers.
        """
        tensor = tf.convert_to_tensor(input_tensor)
        dtype = tensor.dtype
        if not (dtype.is_floating or dtype.is_integer or dtype.is_complex):
            raise TypeError(
                "`all_reduce` must be given numbers, to add them up. Received: a tensor of "
                f"{dtype.name}. Cast it, to tf.int32 for example."
            )
        if dtype.is_floating and dtype.size < tf.float32.size:  # MPI has no sum of these
            return tf.cast(self._run("all-reduce", tf.cast(tensor, tf.float32)), dtype)
        return self._run("all-reduce", tensor)

    def _all_gather(self, input_tensor: Any, options: Any) -> tf.Tensor:
        tensor = tf.convert_to_tensor(input_tensor)
        if tensor.dtype == tf.string:
            raise TypeError(
                "`gather` must be given values of a fixed size. Received: a tensor of string. "
                "Gather their indices in a vocabulary, or tf.io.decode_raw of them."
            )
        return self._run("all-gather", tensor)

    def _run(self, kind: Kind, tensor: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU:0"):
            ticket = self._next_ticket.read_value()
            following = tf.numpy_function(
                lambda own, ticket: np.int64(self._collectives.start(kind, own, int(ticket))),
                [tensor, ticket],
                tf.int64,
                name=f"mpi_{kind}",  # by which tfscale.monitor counts its bytes
            )
            self._next_ticket.assign(following)
            # The wait depends on the start through the ticket that the start returns.
            result = tf.numpy_function(
                lambda following: self._collectives.wait(int(following) - 1),
                [following],
                tensor.dtype,
            )
        shape = tensor.shape
        if kind == "all-gather":
            first = shape[0] if shape.rank else None
            first = None if first is None else first * self._collectives.num_workers
            shape = tf.TensorShape([first, *shape[1:]]) if shape.rank else tf.TensorShape(None)
        result.set_shape(shape)
        return result
