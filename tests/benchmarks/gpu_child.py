"""Program: a child process that trains a variant of `make bench-gpu`.

python -m tests.benchmarks.gpu_child ADDRESS VARIANT NUM_WORKERS THREADS RACE

Mirrored variants train on the batch of one device times the GPUs (weak scaling). On a host without
a GPU two logical CPUs stand in, so that the program can be tested.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf

import strategies
import tfscale
from tests.benchmarks.gpu import STAND_INS
from tfscale.bench.child import WAYS as OWN_WAYS
from tfscale.bench.child import main
from tfscale.bench.gpus import Way
from tfscale.bench.memory_child import imported, with_device_bytes
from tfscale.bench.models import MODELS
from tfscale.bench.training import fit_in_turns
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race


def num_replicas() -> int:
    """Returns the number of GPUs, or of logical CPUs where there is none."""
    return len(tf.config.list_physical_devices("GPU")) or STAND_INS


def mirrored() -> tf.distribute.Strategy:
    """Builds our strategy over all GPUs."""
    return strategies.mirrored_strategy(num_replicas())


def stock_mirrored() -> tf.distribute.Strategy:
    """Builds TensorFlow's strategy over all GPUs."""
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    cpus = [tf.config.LogicalDeviceConfiguration()] * STAND_INS
    tf.config.set_logical_device_configuration(cpu, cpus)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(STAND_INS)])


def on_all(new_strategy: Callable[[], tf.distribute.Strategy]) -> Way:
    """Returns the way that trains on all GPUs; it says so if there is only one."""

    def taken(race: Race, turns: Turns, _: int) -> None:
        if num_replicas() == 1:
            turns.fail("missing", "one GPU has nothing to mirror")
            return
        fit_in_turns(new_strategy, race, turns, num_replicas())

    return taken


def in_mixed_precision(race: Race, turns: Turns, num_workers: int) -> None:
    """Trains on one GPU in the precision that "auto" chooses for it."""

    def one_device() -> tf.distribute.Strategy:
        strategy = strategies.one_device_strategy()
        tfscale.set_precision("auto", strategy)
        return strategy

    fit_in_turns(one_device, race, turns, num_workers)


def compiled_by_xla(race: Race, turns: Turns, num_workers: int) -> None:
    """Trains on one GPU with `jit_compile`."""
    named = MODELS[race.model]

    def compiled() -> Any:
        model = named.compiled()
        model.jit_compile = True
        return model

    MODELS[race.model] = dataclasses.replace(named, compiled=compiled)
    fit_in_turns(lambda: strategies.one_device_strategy(), race, turns, num_workers)


WAYS: dict[str, Way] = {
    "stock": OWN_WAYS["stock"],
    "one_device": OWN_WAYS["one_device"],
    "mixed": in_mixed_precision,
    "xla": compiled_by_xla,
    "stock_mirrored": on_all(stock_mirrored),
    "mirrored": on_all(mirrored),
}
WAYS = {"imported": imported, **{name: with_device_bytes(way) for name, way in WAYS.items()}}


if __name__ == "__main__":
    sys.exit(main(WAYS, sys.argv[1:]))
