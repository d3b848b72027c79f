"""The cost of a checkpoint: time taken from training, memory, and bandwidth.

python -m tests.benchmarks.checkpoint --parameters=100

Trains dense layers with Adam on one CPU and saves in the first step of every second block of steps.
A save and what follows it are in one block, so the time it takes from training is the difference
between the medians of blocks with and without a save. Then as many bytes are written plainly.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tfscale.checkpoints import CheckpointDirectory

LAYERS = 10
BATCH = 64
CHUNK_BYTES = 16 * 2**20


class Clock(keras.callbacks.Callback):
    """Records at the beginning of each step the time, the processor time and the peak memory."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[float, float]] = []
        self.peaks: list[int] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.begun.append((time.monotonic(), time.process_time()))
        self.peaks.append(peak_bytes())


class Saves(tfscale.callbacks.Checkpoint):
    """A checkpoint that records when each save begins, and how long training waits for it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.begun: dict[int, float] = {}
        self.waited: dict[int, float] = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = self.position.batches + 1
        self.begun[step] = time.time()  # also the file system's metadata
        super().on_train_batch_end(batch, logs)
        self.waited[step] = time.time() - self.begun[step]


def peak_bytes() -> int:
    """The peak memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def plain_write(folder: Path, num_bytes: int) -> float:
    """Seconds to write as many bytes in large pieces, and to flush them to the disk."""
    piece = np.ones(CHUNK_BYTES, np.uint8).data
    started = time.monotonic()
    with (folder / "plain").open("wb", buffering=0) as file:
        for _ in range(0, num_bytes, CHUNK_BYTES):
            file.write(piece)
        os.fsync(file.fileno())
    seconds = time.monotonic() - started
    (folder / "plain").unlink()
    return seconds


def main() -> int:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.checkpoint")
    parser.add_argument("--parameters", type=float, default=100, help="millions (default: 100)")
    parser.add_argument("--block", type=int, default=6, help="steps per block (default: 6)")
    parser.add_argument("--blocks", type=int, default=10, help="blocks of each kind (default: 10)")
    parser.add_argument("--threads", type=int, default=0, help="of training (default: all cores)")
    parser.add_argument("--folder", default=None, help="where to write (default: temporary files)")
    flags = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    strategy = strategies.one_device_strategy("CPU:0")
    units = round((flags.parameters * 1e6 / LAYERS) ** 0.5)
    with strategy.scope():
        layers = [keras.layers.Dense(units, activation="tanh") for _ in range(LAYERS)]
        model = keras.Sequential([keras.Input((units,)), *layers])
        model.compile("adam", "mse")
    rows = np.ones([BATCH, units], np.float32)
    period = 2 * flags.block
    batches = tf.data.Dataset.from_tensors((rows, rows)).repeat(period * (flags.blocks + 1))
    clock = Clock()
    with tempfile.TemporaryDirectory(dir=flags.folder) as temporary:
        folder = Path(temporary)
        before = peak_bytes()
        saves = Saves(folder / "run", every=period, keep=None)
        model.fit(batches, verbose=0, callbacks=[clock, saves])
        steps = CheckpointDirectory(folder / "run").steps()[:-1]  # the last one is the end's
        durations, num_bytes = [], 0
        for step in steps:
            path = folder / "run" / f"step-{step:012d}"
            durations.append(path.stat().st_ctime - saves.begun[step])  # it was renamed last
            num_bytes = sum(file.stat().st_size for file in path.iterdir())
            shutil.rmtree(path)
        plain = [plain_write(folder, num_bytes) for _ in range(3)]
    # The first period compiles, and a save follows its last step.
    blocks = np.diff(np.array(clock.begun[period - 1 :: flags.block]), axis=0)
    with_save, without = blocks[0::2], blocks[1::2]
    stolen, processor = np.median(with_save, axis=0) - np.median(without, axis=0)
    duration = statistics.median(durations)
    cores = os.cpu_count() or 1
    threads = flags.threads or "all"
    print(f"load average: {os.getloadavg()[0]:.1f} on {cores} cores, {threads} for training")
    step_seconds = np.median(without, axis=0)[0] / flags.block
    print(f"state: {num_bytes / 1e9:.2f} GB; a step: {step_seconds:.3f} s")
    print(f"save: {duration:.2f} s, median of {_listed(durations)}")
    print(
        f"taken from training: {stolen:.3f} s a save, {stolen / duration:.1%} of it: difference of"
    )
    print(f"  blocks with a save: {_listed(with_save[:, 0])}")
    print(f"  blocks without:     {_listed(without[:, 0])}")
    print(f"  processor: {processor:.3f} s a save, {processor / cores / duration:.1%} of all cores")
    waits = [saves.waited[step] for step in steps]
    print(f"  training waits: {statistics.median(waits):.3f} s, median of {_listed(waits)}")
    print(f"peak memory: {peak_bytes() / 1e9:.2f} GB; before the first save ", end="")
    print(f"{clock.peaks[period - 1] / 1e9:.2f}, before training {before / 1e9:.2f}")
    rate, limit = num_bytes / duration / 1e9, num_bytes / statistics.median(plain) / 1e9
    print(f"bandwidth: {rate:.2f} GB/s; plain write and fsync: {limit:.2f} GB/s")
    return 0


def _listed(seconds: Iterable[float]) -> str:
    return " ".join(f"{value:.2f}" for value in seconds)


if __name__ == "__main__":
    sys.exit(main())
