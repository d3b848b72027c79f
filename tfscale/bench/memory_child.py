"""The program of `tfscale bench memory`: trains a variant as `tfscale bench step` does, or nothing.

python -m tfscale.bench.memory_child ADDRESS VARIANT NUM_WORKERS THREADS RACE
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import tensorflow as tf

from tfscale.bench.child import WAYS as STEP_WAYS
from tfscale.bench.child import main
from tfscale.bench.gpus import Way
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race


def imported(race: Race, turns: Turns, num_workers: int) -> None:
    """Takes turns without training: the memory of TensorFlow and Keras."""
    turns.ready(0.0)
    for _ in range(race.rounds):
        turns.start()
        turns.finish()


def device_bytes() -> int:
    """Returns the peak memory that TensorFlow has used on the GPUs of this process."""
    gpus = range(len(tf.config.list_logical_devices("GPU")))
    return sum(tf.config.experimental.get_memory_info(f"GPU:{i}")["peak"] for i in gpus)


def with_device_bytes(way: Way) -> Way:
    """Returns the same way, which also reports the memory of its GPUs."""

    def taken(race: Race, turns: Turns, num_workers: int) -> None:
        turns.device_bytes = device_bytes
        way(race, turns, num_workers)

    return taken


WAYS: Mapping[str, Way] = {
    "imported": imported,
    **{name: with_device_bytes(way) for name, way in STEP_WAYS.items()},
}


if __name__ == "__main__":
    sys.exit(main(WAYS, sys.argv[1:]))
