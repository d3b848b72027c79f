"""The end of input: after the same step on all workers, otherwise an error.

Generators have no length. If the generator of one worker ends first, the others would wait for it
in the next step, or continue without its examples. So workers that do not know their number of
steps ask each other before each step, with one small all-reduce. A worker whose counted input ends
early waits at a rendezvous with the others before it continues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.coordination.rendezvous import (
    error_on_all_workers,
    exchange,
    worker_index,
    workers_of,
)
from strategies.keras_support.input.replica_stream import next_batch
from strategies.progress import phase

RENDEZVOUS_SECONDS = 20.0
"""How long a worker whose input ended waits for the others, which are at the same step."""

_CURE = (
    "Give every worker the same number of global batches: pass all data on every worker, or a "
    "`steps_per_epoch` that every worker's data suffice for."
)


class EndTogether:
    """An iterator of batches that ends on all workers at once.

    Args:
        strategy: A strategy of several workers.
        stream: This worker's; see `distribute_replica_batches`.
    """

    def __init__(self, strategy: tf.distribute.Strategy, stream: tf.data.Iterator) -> None:
        self._strategy = strategy
        self._stream = stream
        self._steps = 0
        self._sum = _sum_over_workers(strategy)

    def __iter__(self) -> EndTogether:
        return self

    def __next__(self) -> Any:
        """Returns the next step's batch.

        Raises:
            StopIteration: If no worker has more.
            ValueError: If only some have.
        """
        batch: Any = None
        try:
            batch = next_batch(self._strategy, self._stream)
            has_more = True
        except (StopIteration, tf.errors.OutOfRangeError):
            has_more = False
        with phase("collective"):
            more = self._sum(tf.constant(has_more)).numpy()
        if not more.any():
            raise StopIteration
        if not more.all():
            ended = [index for index, has in enumerate(more) if not has]
            raise error_on_all_workers(
                "`x` must have the same number of batches on every worker. Received: the input of "
                f"worker {', '.join(map(str, ended))} ended after {self._steps} steps, where "
                f"the others had more. {_CURE}"
            )
        self._steps += 1
        return batch


def refuse_unequal_ends(strategy: tf.distribute.Strategy, step: int, total: int | None) -> None:
    """Waits for the other workers, whose input must have ended too.

    Args:
        strategy: A strategy of several workers.
        step: First step of the execution in which this worker's input ended, from 0.
        total: Steps that the epoch should have had.

    Raises:
        ValueError: If they did not come; they are in a step that needs this worker.
    """
    try:
        exchange(strategy, f"input that ends at step {step}", deadline_seconds=RENDEZVOUS_SECONDS)
    except TimeoutError:
        raise ValueError(
            "`x` must have the same number of batches on every worker. Received: the input of "
            f"worker {worker_index(strategy)} ended at step {step} of {total}, where others had "
            f"more. {_CURE}"
        ) from None


def _sum_over_workers(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function that counts, for each worker, its replicas that say True."""
    own = tf.one_hot(worker_index(strategy), len(workers_of(strategy)), dtype=tf.int32)

    def on_replica(has_more: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        total: tf.Tensor = replica.all_reduce(
            tf.distribute.ReduceOp.SUM, own * tf.cast(has_more, tf.int32)
        )
        return total

    @tf.function(autograph=False)
    def count(has_more: tf.Tensor) -> tf.Tensor:
        counts = strategy.run(on_replica, args=(has_more,))
        return strategy.experimental_local_results(counts)[0]

    function: Callable[[tf.Tensor], tf.Tensor] = count.get_concrete_function(
        tf.TensorSpec([], tf.bool)
    )
    return function
