"""Program: a child process that trains configurations, one after another.

    python -m tests.parity.runner CASES FOLDER --strategy=mirrored2 [--stock] [--disable=S4]
    python -m tests.parity.runner CASES FOLDER --strategy=reference [--permuted]

CASES contains the text of a configuration on each line. The results of case i are written to
`FOLDER/i.WORKER.npz`; the lines `parity: start i` and `parity: done i` report the progress.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.parity.configuration import Configuration, devices_of, shard_of
from tests.parity.leaving_out import leave_out
from tests.parity.scenarios import is_scenario, play
from tests.parity.training import Run, train

SAYS = "parity:"


def main() -> int:
    """Trains every case; an exception ends the process, because collectives stay broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--permuted", action="store_true")
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--disable")
    arguments = parser.parse_args()
    if arguments.disable:
        leave_out(arguments.disable)
    strategy = _strategy(arguments.strategy, arguments.stock)
    run = Run(strategy, arguments.permuted, is_ours=strategy is not None and not arguments.stock)
    worker = _worker_index()
    for index, text in enumerate(arguments.cases.read_text("utf-8").splitlines()):
        print(f"{SAYS} start {index}", flush=True)
        try:
            found = play(text, run) if is_scenario(text) else train(Configuration.parse(text), run)
        except Exception:
            (arguments.folder / f"{index}.{worker}.error").write_text(
                traceback.format_exc(), "utf-8"
            )
            raise
        _save(arguments.folder / f"{index}.{worker}.npz", found)
        print(f"{SAYS} done {index}", flush=True)
    if arguments.strategy == "reference":
        _require_stock_keras()
    return 0


def _save(path: Path, found: dict[str, np.ndarray]) -> None:
    arrays: dict[str, Any] = dict(found)
    np.savez(path, **arrays)


def _strategy(name: str, is_stock: bool) -> tf.distribute.Strategy | None:
    if name == "reference":
        return None
    num_replicas = int(name[-1])
    shard = shard_of(name)
    if not is_stock:
        import strategies

        if name.startswith("workers"):
            return strategies.multi_worker_mirrored_strategy(bring_up_seconds=60, shard=shard)
        return strategies.mirrored_strategy(
            num_replicas=num_replicas, shard=shard, devices_per_replica=devices_of(name)
        )
    if name.startswith("workers"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * num_replicas
    tf.config.set_logical_device_configuration(cpu, parts)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(num_replicas)])


def _worker_index() -> int:
    task: dict[str, Any] = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
    return int(task.get("index", 0))


def _require_stock_keras() -> None:
    ours = sorted({name.split(".")[0] for name in sys.modules} & {"strategies", "tfscale"})
    if ours:
        raise RuntimeError(
            f"The reference must run on stock Keras. Received: a process that imported {ours}. "
            "Keep imports of tfscale and strategies out of the zoo."
        )


if __name__ == "__main__":
    sys.exit(main())
