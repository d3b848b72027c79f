"""Examples a second of a Python source that takes 5 ms for each, by the number of processes.

python -m tests.benchmarks.read_workers
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data import RandomAccessSource, indexed

SECONDS = 0.005
BATCH, BATCHES, ROUNDS = 32, 14, 5
WORKERS = (0, 1, 2)


class Busy:
    """Examples of 5 ms of processor time each, which keep Python's lock."""

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> Any:
        end = time.thread_time() + SECONDS
        while time.thread_time() < end:
            pass
        return np.int64(index)


def rate(source: RandomAccessSource) -> float:
    """Returns the examples a second of some batches, after a first one."""
    batches = (
        tf.data.Dataset.range(BATCHES + 1)
        .map(lambda step: step * BATCH + tf.range(BATCH, dtype=tf.int64))
        .map(source.take, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(2)
    )
    stream = iter(batches)
    next(stream)
    begin = time.perf_counter()
    count = sum(BATCH for _ in stream)
    return count / (time.perf_counter() - begin)


def main() -> None:
    sources = {workers: indexed(Busy(), read_workers=workers) for workers in WORKERS}
    found: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(ROUNDS + 1):  # the first round is dropped
        for workers, source in sources.items():
            found[workers].append(rate(source))
    medians = {workers: statistics.median(rates[1:]) for workers, rates in found.items()}
    print(f"examples of {SECONDS * 1e3:g} ms, batches of {BATCH}, medians of {ROUNDS} rounds")
    for workers, median in medians.items():
        print(
            f"read_workers={workers}: {median:5.0f} examples/s "
            f"[{min(found[workers][1:]):.0f}-{max(found[workers][1:]):.0f}], "
            f"{median / medians[0]:.2f}x"
        )


if __name__ == "__main__":
    main()
