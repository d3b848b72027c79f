"""Program: a rank that adds up inside a `tf.function`, by TensorFlow's engine or by ours.

python -m tfscale.bench.collectives.tensorflow_engines ADDRESS ENGINE NUM_RANKS THREADS REDUCTION

A turn is one call of a function with a chain of all-reduces, as a training step makes them: in
replica context, under `strategy.run`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping

import tensorflow as tf

import strategies
from tfscale.bench.collectives.reduction import (
    FLOAT_BYTES,
    Rank,
    Reduce,
    calls_of,
    check_sum,
    reduce_in_turns,
)
from tfscale.verify.user_model import in_one_line

_START_SECONDS = 120.0

STRATEGIES: Mapping[str, Callable[[], tf.distribute.Strategy]] = {
    "tensorflow": lambda: tf.distribute.MultiWorkerMirroredStrategy(),
    "ring": lambda: strategies.multi_worker_mirrored_strategy(
        all_reduce="ring", bring_up_seconds=_START_SECONDS
    ),
    "mpi": lambda: strategies.multi_worker_mirrored_strategy(
        all_reduce="mpi", bring_up_seconds=_START_SECONDS
    ),
}


def new_reduce(strategy: tf.distribute.Strategy, size: int, calls: int) -> Reduce:
    """Returns the function that adds up tensors of a size, once its sum has been checked.

    Args:
        strategy: Of all ranks.
        size: Bytes of a tensor. A positive multiple of 4.
        calls: All-reduces of a turn: what the function must be called with. Positive.
    """

    def chained(value: tf.Tensor, count: int) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        value = tf.identity(value)  # on the replica's device, unlike the function's argument
        for _ in range(count):
            value = replica.all_reduce(tf.distribute.ReduceOp.SUM, value)
        return value[0]  # the rest need not leave the function

    @tf.function
    def once(value: tf.Tensor) -> tf.Tensor:
        return strategy.run(chained, (value, 1))

    @tf.function
    def turn(value: tf.Tensor) -> tf.Tensor:
        return strategy.run(chained, (value, calls))

    replica_ids = strategy.experimental_distribute_values_from_function(
        lambda context: tf.fill([size // FLOAT_BYTES], 1.0 + context.replica_id_in_sync_group)
    )
    zeros = strategy.experimental_distribute_values_from_function(
        lambda _: tf.zeros([size // FLOAT_BYTES])
    )
    num_replicas = strategy.num_replicas_in_sync
    check_sum(float(strategy.experimental_local_results(once(replica_ids))[0]), num_replicas)

    def reduce(count: int) -> None:
        assert count == calls
        for result in strategy.experimental_local_results(turn(zeros)):
            float(result)

    return reduce


def main(engines: Mapping[str, Callable[[], tf.distribute.Strategy]]) -> int:
    """Runs the turns of one rank, or of all replicas of one process. Returns the exit status.

    Args:
        engines: By name, what builds the strategy.
    """
    rank = Rank.from_command_line()
    with rank.turns as turns:
        if rank.engine == "mpi" and importlib.util.find_spec("mpi4py") is None:
            turns.fail("missing", "mpi4py is not installed; `pip install tfscale[mpi]`")
            return 0
        tf.config.threading.set_intra_op_parallelism_threads(rank.threads)
        tf.config.threading.set_inter_op_parallelism_threads(rank.threads)
        try:
            strategy = engines[rank.engine]()
            reduce_in_turns(
                rank.reduction, turns, lambda size: new_reduce(strategy, size, calls_of(size))
            )
        except Exception as error:
            turns.fail("failed", in_one_line(error))
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(STRATEGIES))
