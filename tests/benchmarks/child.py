"""Program: a child process that runs the turns of a peer, or with op determinism.

python -m tests.benchmarks.child ADDRESS VARIANT NUM_WORKERS THREADS RACE
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import tensorflow as tf

from tests.defects import patched_stock
from tfscale.bench.child import WAYS as OWN_WAYS
from tfscale.bench.child import Way, main
from tfscale.bench.training import fit_in_turns
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race


def stock_mirrored() -> tf.distribute.Strategy:
    """TensorFlow's strategy on two logical CPUs."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def patched_workers() -> tf.distribute.Strategy:
    """TensorFlow's strategy; without the two patches `fit` crashes."""
    patched_stock.patch()
    return tf.distribute.MultiWorkerMirroredStrategy()


def own_shares(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> Any:
    """Each worker's rows of each batch: TensorFlow's sharding would give it other batches."""

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        def own(part: tf.Tensor) -> tf.Tensor:
            rows = part.shape[0] // context.num_input_pipelines
            return part[context.input_pipeline_id * rows :][:rows]

        return dataset.map(lambda *batch: tf.nest.map_structure(own, batch)).prefetch(2)

    return strategy.distribute_datasets_from_function(of_worker)


def to_the_bit(way: Way) -> Way:
    """The same with op determinism."""

    def taken(race: Race, turns: Turns, num_workers: int) -> None:
        tf.config.experimental.enable_op_determinism()
        way(race, turns, num_workers)

    return taken


WAYS: dict[str, Way] = {
    "stock_mirrored": functools.partial(fit_in_turns, stock_mirrored),
    "patched_workers": functools.partial(fit_in_turns, patched_workers, distributed=own_shares),
}
WAYS |= {f"{name}_bits": to_the_bit(way) for name, way in {**OWN_WAYS, **WAYS}.items()}


if __name__ == "__main__":
    sys.exit(main(WAYS, sys.argv[1:]))
