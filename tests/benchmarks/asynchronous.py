"""Asynchronous and synchronous training compared, with equal workers and with a slow one.

python -m tests.benchmarks.asynchronous --milliseconds=40 --slower=5

The input of a worker sets the time of its step: it waits and computes nothing. So workers do not
compete for the two cores of a host, and only the slowed worker is slow.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.programs import completed

BATCH = 32
JOB_SECONDS = 400.0


@dataclass(frozen=True)
class Job:
    """A row of the table.

    Attributes:
        is_asynchronous: Whether parameter servers are used, or synchronous workers.
        num_workers: Positive.
        is_slowed: Whether the last worker is slowed.
    """

    is_asynchronous: bool
    num_workers: int
    is_slowed: bool

    def __str__(self) -> str:
        kind = "asynchronous, 1 server" if self.is_asynchronous else "in step"
        return f"| {kind} | {self.num_workers} | {'one' if self.is_slowed else 'none'} |"


JOBS = [
    Job(is_asynchronous, *workers)
    for workers in ((1, False), (2, False), (2, True))
    for is_asynchronous in (False, True)
]


def main() -> int:
    """Runs every job and prints the table; in a task of a job, trains."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--milliseconds", type=int, default=40, help="of one worker's step")
    parser.add_argument("--slower", type=int, default=5, help="how many times slower one is")
    parser.add_argument("--steps", type=int, default=150, help="batches that are timed")
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--slowed", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.found is not None:
        _train(arguments)
        return 0
    print("| training | workers | slowed | examples a second | staleness: mean, largest |")
    print("|---|---|---|---|---|")
    for job in JOBS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{job} {_found(job, Path(folder) / 'found', sys.argv[1:])} |", flush=True)
    return 0


def _found(job: Job, path: Path, flags: list[str]) -> str:
    program = [sys.executable, "-m", "tests.benchmarks.asynchronous", *flags, f"--found={path}"]
    program += ["--slowed"] if job.is_slowed else []
    launch = ["-m", "tfscale", "launch", f"--num_workers={job.num_workers}"]
    launch += ["--num_ps=1"] if job.is_asynchronous else []
    ended = completed(*launch, "--grace_seconds=1", "--", *program, timeout=JOB_SECONDS)
    if ended.returncode != 0:
        raise RuntimeError(f"{job} ended with {ended.returncode}:\n{ended.stdout[-3000:]}")
    return path.read_text("utf-8")


def _train(arguments: argparse.Namespace) -> None:
    import keras
    import tensorflow as tf
    from tensorflow.python.data.experimental.ops.testing import sleep

    import strategies

    cluster = strategies.Cluster.from_tf_config(os.environ["TF_CONFIG"])
    is_asynchronous = cluster.num_parameter_servers > 0
    build = (
        strategies.parameter_server_strategy
        if is_asynchronous
        else strategies.multi_worker_mirrored_strategy
    )
    strategy = build(bring_up_seconds=200)
    workers = len(cluster.jobs["worker"])
    # Synchronous workers read global batches and take their part: the number of waits is the same.
    rows = BATCH if is_asynchronous else BATCH * workers

    def batches(worker: int) -> tf.data.Dataset:
        is_slow = arguments.slowed and worker == workers - 1
        wait = arguments.milliseconds * (arguments.slower if is_slow else 1)
        examples = (tf.zeros([rows, 64]), tf.zeros([rows, 1]))
        endless = tf.data.Dataset.from_tensors(examples).repeat()
        return endless.apply(sleep(1000 * wait))

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return batches(context.input_pipeline_id)

    x = of_worker if is_asynchronous else batches(cluster.worker_index)
    with strategy.scope():
        layers = [keras.Input((64,)), keras.layers.Dense(64, activation="relu")]
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1e-3), "mse")
    steps = arguments.steps if is_asynchronous else max(1, arguments.steps // workers)
    model.fit(x, steps_per_epoch=2 * workers, verbose=0)  # makes the graphs
    begin = time.perf_counter()
    history = model.fit(x, steps_per_epoch=steps, verbose=0).history
    seconds = time.perf_counter() - begin
    if strategies.is_chief(strategy):
        stale = "-"
        if is_asynchronous:
            stale = f"{history['staleness'][0]:.2f}, {history['max_staleness'][0]:.0f}"
        text = f"{steps * rows / seconds:.0f} | {stale}"
        arguments.found.with_suffix(".part").write_text(text, "utf-8")
        arguments.found.with_suffix(".part").rename(arguments.found)


if __name__ == "__main__":
    sys.exit(main())
