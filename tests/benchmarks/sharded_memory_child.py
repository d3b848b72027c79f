"""Program: trains a multilayer perceptron with sharded state, and prints what memory it needed.

python -m tests.benchmarks.sharded_memory_child CASE
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

SAMPLE = "sharded_memory: "
BATCH = 8
GROUPS = Path("/sys/fs/cgroup/memory")
"""Of control groups, version 1."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        place: `one` process, `replicas` on logical CPUs or `workers`.
        num: Replicas or workers.
        shard: Stage.
        layers: Dense layers.
        width: Their units.
        steps: Of training.
        limit: Bytes that the process may have, or 0.
        by: What limits them: `cgroup` or `rlimit`.
    """

    place: str
    num: int
    shard: int
    layers: int
    width: int
    steps: int = 3
    limit: int = 0
    by: str = "cgroup"

    @property
    def parameters(self) -> int:
        """Bytes of the parameters; kernels are nearly all of it."""
        return 4 * self.layers * (self.width**2 + self.width)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one process found.

    Attributes:
        live: Bytes of all variables that are alive after training, by device.
        peak: Largest resident memory since the start of the process (VmHWM), in bytes.
        allocated: Most bytes that TensorFlow's allocator of the CPU had handed out at a time, for
            all logical CPUs of the process.
        step_seconds: Median of the steps after the first.
    """

    live: dict[str, int]
    peak: int
    allocated: int
    step_seconds: float


def main(case: Case) -> None:
    """Trains and prints one line."""
    if case.limit:
        _limit(case)
    import keras
    import numpy as np
    import tensorflow as tf

    import strategies

    if case.place == "one":
        strategy = strategies.one_device_strategy("CPU:0")
    elif case.place == "replicas":
        strategy = strategies.mirrored_strategy(case.num, shard=case.shard)
    else:
        strategy = strategies.multi_worker_mirrored_strategy(
            shard=case.shard, all_reduce="ring", bring_up_seconds=240
        )

    class Clock(keras.callbacks.Callback):
        """Times steps, without the first, which is traced."""

        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []
            self._last = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            now = time.monotonic()
            if batch:
                self.seconds.append(now - self._last)
            self._last = now

    with strategy.scope():
        model = keras.Sequential([keras.Input((case.width,))])
        for _ in range(case.layers):
            model.add(keras.layers.Dense(case.width, activation="tanh"))
        model.compile("adam", "mse", jit_compile=False, steps_per_execution=1)
    draw = np.random.default_rng(1)
    x = draw.normal(size=(BATCH, case.width)).astype("float32")
    dataset = tf.data.Dataset.from_tensors((x, x)).repeat(case.steps)
    clock = Clock()
    model.fit(dataset, verbose=0, callbacks=[clock])
    allocated = tf.config.experimental.get_memory_info("CPU:0")["peak"]
    measured = Measured(_live(), _peak(), allocated, float(np.median(clock.seconds)))
    print(f"{SAMPLE}{json.dumps(dataclasses.asdict(measured))}", flush=True)


def _live() -> dict[str, int]:
    """Returns the bytes of variables by device: of every one that is alive, not only of a model."""
    from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

    gc.collect()
    handles = {}
    for each in gc.get_objects():
        if isinstance(each, BaseResourceVariable) and hasattr(each.handle, "numpy"):
            handles[id(each.handle)] = each
    sizes: Counter[str] = Counter()
    for each in handles.values():
        size = (each.shape.num_elements() or 0) * each.dtype.size
        sizes[str(each.handle.device).rpartition("device:")[2]] += size
    return dict(sizes)


def _peak() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _limit(case: Case) -> None:
    """Limits the memory of this process, before it imports anything large."""
    if case.by == "rlimit":
        resource.setrlimit(resource.RLIMIT_DATA, (case.limit, case.limit))
        return
    group = GROUPS / f"sharded_memory_{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(case.limit), "ascii")
    (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")


if __name__ == "__main__":
    main(Case(**json.loads(sys.argv[1])))
