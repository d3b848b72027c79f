"""The program of a child process: runs one variant's turns.

python -m tfscale.bench.child ADDRESS VARIANT NUM_WORKERS THREADS RACE

ADDRESS is the race's socket, NUM_WORKERS is 0 without a cluster, THREADS are those of this process,
and RACE is `Race.to_json()`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping

import tensorflow as tf

import strategies
from tfscale.bench.gpus import Way, one_gpu_each, with_gpus
from tfscale.bench.training import fit_in_turns, loop_in_turns
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race
from tfscale.verify.user_model import WrongUsage, in_one_line

WAYS: Mapping[str, Way] = {
    "stock": functools.partial(fit_in_turns, lambda: None),
    # The factories patch Keras, so a strategy is built only in the process that uses it.
    "one_device": functools.partial(fit_in_turns, lambda: strategies.one_device_strategy()),
    "mirrored": with_gpus(
        functools.partial(fit_in_turns, lambda: strategies.mirrored_strategy(2)), 2
    ),
    "loop": loop_in_turns,
    "two_processes": one_gpu_each(
        functools.partial(fit_in_turns, lambda: strategies.one_device_strategy()), 2
    ),
    "workers": one_gpu_each(
        functools.partial(
            fit_in_turns, lambda: strategies.multi_worker_mirrored_strategy(bring_up_seconds=120)
        ),
        2,
    ),
}


def main(ways: Mapping[str, Way], arguments: list[str]) -> int:
    """Runs the turns of one process.

    Args:
        ways: The variants of this program, by name.
        arguments: The command line without the program's name.

    Returns:
        The exit status.
    """
    address, variant, num_workers, threads, text = arguments
    race = Race.from_json(text)
    # Must be set before TensorFlow starts: threads within an operation, and parallel operations.
    # All of the host's are TensorFlow's default, of which logical CPUs take their shares.
    if int(threads) != os.cpu_count():
        tf.config.threading.set_intra_op_parallelism_threads(int(threads))
        tf.config.threading.set_inter_op_parallelism_threads(int(threads))
    with Turns(address, race.patience_seconds) as turns:
        try:
            ways[variant](race, turns, int(num_workers))
        except WrongUsage as error:
            turns.fail("wrong", str(error))
            return 2
        except Exception as error:
            turns.fail("failed", in_one_line(error))
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(WAYS, sys.argv[1:]))
