"""TensorFlow's strategies as peers. Nothing of `strategies` or `tfscale` is imported."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tests.defects import patched_stock


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
