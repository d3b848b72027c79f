"""The seconds of an all-reduce of 1 MiB between the workers of this job.

Measured in a process of its own: a cluster that does not start ends its process, and TensorFlow
never gives a port back.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import strategies
from strategies.extension import EXIT_REASON_VARIABLE, START_SECONDS_VARIABLE

MESSAGE_BYTES = 1 << 20
START_SECONDS = 60.0
_DEADLINE_SECONDS = 120.0
_CALLS = 20
_PREFIX = "all_reduce_ms="


class NoAllReduce(Exception):
    """The workers could not add."""


def all_reduce_ms(cluster: strategies.Cluster) -> float:
    """Returns the median of the milliseconds of 20 all-reduces; every worker calls this.

    Args:
        cluster: The cluster. Nothing may listen on its ports now.

    Raises:
        NoAllReduce: If the workers do not start, or one fails.
    """
    environ = {name: text for name, text in os.environ.items() if name != EXIT_REASON_VARIABLE}
    environ |= {"TF_CONFIG": cluster.to_tf_config(), START_SECONDS_VARIABLE: str(START_SECONDS)}
    command = [sys.executable, "-m", "tfscale.doctor.all_reduce"]
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=_DEADLINE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise NoAllReduce(f"it did not end within {_DEADLINE_SECONDS:g} s") from error
    for line in done.stdout.splitlines():
        if line.startswith(_PREFIX):
            return float(json.loads(line.removeprefix(_PREFIX)))
    last = [line for line in done.stderr.splitlines() if line.strip()]
    raise NoAllReduce(last[-1] if last else f"its process ended with status {done.returncode}")


def _measure() -> None:
    import tensorflow as tf

    strategy = strategies.multi_worker_mirrored_strategy()

    @tf.function(autograph=False)
    def add() -> tf.Tensor:
        def step() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            value = tf.ones([MESSAGE_BYTES // 4])
            return context.all_reduce(tf.distribute.ReduceOp.SUM, value)[0]

        return strategy.experimental_local_results(strategy.run(step))[0]

    float(add())
    times = []
    for _ in range(_CALLS):
        begin = time.perf_counter()
        float(add())
        times.append(1e3 * (time.perf_counter() - begin))
    print(f"{_PREFIX}{statistics.median(times)}", flush=True)


if __name__ == "__main__":
    _measure()
