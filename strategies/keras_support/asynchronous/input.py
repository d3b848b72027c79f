"""The input of each worker: an endless stream of its batches, for every kind of input.

    x                                 worker w of W reads
    a pipeline of tfscale.data        the orders of epochs far from the others', each a permutation
                                      of all examples; without shuffle, from w / W of the epoch on
    a function of an InputContext     what the function returns for input pipeline w, again and
                                      again
    arrays, a tf.data.Dataset         the batches w, w + W, ... of the whole, again and again: it
                                      reads them all and keeps one in W

One worker reads what one device would. An epoch is a number of steps of all workers, and may not
contain each example exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras.src.trainers.data_adapters import array_data_adapter, tf_dataset_adapter
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from strategies.keras_support.asynchronous.executions import coordinator_of
from strategies.keras_support.input.pipeline_adapter import GlobalBatchesAdapter
from strategies.keras_support.patching.needs import Need, require

EPOCHS_APART = 2**20
"""Workers start to read a pipeline in epochs that are this far apart."""

DatasetFunction = Callable[[tf.distribute.InputContext], tf.data.Dataset]
OfWorker = Callable[[int], tf.data.Dataset]


class FunctionAdapter(DataAdapter):
    """A function that makes the dataset of one worker, as one of Keras's data adapters."""

    def __init__(self, function: DatasetFunction, class_weight: dict[int, float] | None) -> None:
        if class_weight is not None:
            require(Need.CLASS_WEIGHT)
        self._function = function
        self._class_weight = class_weight

    def of_worker(self, worker: int, workers: int) -> tf.data.Dataset:
        """Returns the dataset of one of several workers, with class weights as sample weights.

        Raises:
            ValueError: If the function returns something else.
        """
        dataset = self._function(tf.distribute.InputContext(workers, worker, 1))
        if not isinstance(dataset, tf.data.Dataset):
            raise ValueError(
                "`x` must return a tf.data.Dataset if it is a function of a "
                f"tf.distribute.InputContext. Received: x({worker=}) of type "
                f"{type(dataset).__name__}. Return batches in a tf.data.Dataset."
            )
        if self._class_weight is None:
            return dataset
        return dataset.map(tf_dataset_adapter.make_class_weight_map_fn(self._class_weight))

    num_batches = None
    batch_size = None
    has_partial_batch = None
    partial_batch_size = None


def worker_stream(adapter: Any, workers: int, first: int) -> OfWorker:
    """Returns the function that makes a worker's stream; it is called in graphs.

    Args:
        adapter: One of Keras's data adapters, or of this package.
        workers: How many there are. Positive.
        first: Batches that each of them skips. Not negative.

    Raises:
        ValueError: If the input cannot be sent to another process.
    """
    if isinstance(adapter, GlobalBatchesAdapter):
        return lambda worker: _pipeline_after(adapter, worker, workers, first).local(0)
    if isinstance(adapter, FunctionAdapter):
        return lambda worker: adapter.of_worker(worker, workers).repeat().skip(first).prefetch(2)
    if not isinstance(
        adapter, (array_data_adapter.ArrayDataAdapter, tf_dataset_adapter.TFDatasetAdapter)
    ):
        raise _unable_to_travel(type(adapter).__name__)
    dataset = adapter.get_tf_dataset()
    if not isinstance(dataset, tf.data.Dataset):
        raise _unable_to_travel(type(dataset).__name__)
    graph, spec = _serialized(dataset), dataset.element_spec

    def of_worker(worker: int) -> tf.data.Dataset:
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph)
        read = tf.data.experimental.from_variant(variant, spec)
        return read.repeat().shard(workers, worker).skip(first).prefetch(2)

    return of_worker


def distribute_to_workers(
    strategy: tf.distribute.Strategy, of_worker: OfWorker, workers: int
) -> tuple[Any, Any]:
    """Lets every worker make its own stream, also after it was lost and restarted.

    Args:
        strategy: A parameter server strategy.
        of_worker: Makes a worker's stream; see `worker_stream`.
        workers: How many there are.

    Returns:
        The streams, to be passed to what is scheduled, and the `tf.TypeSpec` of one of them.
    """

    def stream() -> tf.data.Dataset:
        specs: list[Any] = []

        def branch(worker: int) -> Callable[[], tf.Tensor]:
            def make() -> tf.Tensor:
                dataset = of_worker(worker)
                specs.append(dataset.element_spec)
                return tf.data.experimental.to_variant(dataset)

            return make

        index = tf.distribute.coordinator.experimental_get_current_worker_index()
        branches = [branch(worker) for worker in range(workers)]
        variant = tf.switch_case(tf.cast(index, tf.int32), branches)
        return tf.data.experimental.from_variant(variant, specs[0])

    distributed = coordinator_of(strategy).create_per_worker_dataset(stream)
    return iter(distributed), tf.data.IteratorSpec(distributed.element_spec)


def _pipeline_after(
    adapter: GlobalBatchesAdapter, worker: int, workers: int, first: int
) -> GlobalBatchesAdapter:
    passed = first + worker * EPOCHS_APART * adapter.num_batches
    if not getattr(adapter.batches, "shuffle", False):
        passed += worker * adapter.num_batches // workers
    return adapter.after(passed) if passed else adapter


def _serialized(dataset: tf.data.Dataset) -> tf.Tensor:
    graph = tf.raw_ops.DatasetToGraphV2(
        input_dataset=tf.data.experimental.to_variant(dataset),
        external_state_policy=1,  # an iterator's position, such as a shuffle's, does not travel
        strip_device_assignment=True,
    )
    if b"PyFunc" in graph.numpy():
        raise _unable_to_travel("a dataset that calls Python (from_generator, py_function)")
    return graph


def _unable_to_travel(what: str) -> ValueError:
    return ValueError(
        "`x` must be input that workers in other processes can read: a tfscale.data pipeline, "
        "arrays, a tf.data.Dataset of TensorFlow's own operations, or a function of a "
        f"tf.distribute.InputContext that returns one. Received: {what}. Write the examples to "
        "files, or build the dataset from tensors."
    )
