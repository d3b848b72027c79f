"""Compares the first batch of `x` on all workers, before or after the first step.

The first batch of arrays, of a generator and of a pipeline is known before training. For other
input it is known when the first step reads it: reading a dataset twice would fill its shuffle
buffer twice, and a shuffle would count one more epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters import array_data_adapter, generator_data_adapter

from strategies.announcement import announce
from strategies.cluster.chief import is_chief
from strategies.coordination.data_agreement import has_random_operations
from strategies.coordination.first_batch import (
    arrays_of,
    batch_digest,
    digest_of_arrays,
    is_data,
    refuse_other_batches,
)
from strategies.coordination.rendezvous import exchange
from strategies.keras_support.input.pipeline_adapter import GlobalBatchesAdapter

_QUESTION = "first batch"
_PIPELINE_ROWS = 8
_REPORTED: set[str] = set()


class FirstBatch:
    """The first global batch of one call's input on this worker.

    Args:
        strategy: A strategy of several workers.
        adapter: Keras's data adapter of the input.
    """

    def __init__(self, strategy: tf.distribute.Strategy, adapter: Any) -> None:
        self._strategy = strategy
        self._digest = _digest_at_hand(adapter)
        self._is_compared = False
        self._dataset: tf.data.Dataset | None = None

    def seen_in(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the same batches; the first one's digest is kept here when it is read."""
        if self._digest is not None:
            return dataset
        self._dataset = dataset

        def look(index: tf.Tensor, batch: Any) -> Any:
            parts = batch if isinstance(batch, tuple) else (batch,)
            inputs, targets = _tensors(parts[0]), _tensors(parts[1:])

            def note(*arrays: np.ndarray) -> None:
                if self._digest is None:
                    values = [np.asarray(array) for array in arrays]
                    cut = len(inputs)
                    self._digest = digest_of_arrays(values[:cut], values[cut:])

            def noted() -> tf.Tensor:
                tf.numpy_function(note, [*inputs, *targets], [])
                return tf.constant(True)

            tf.cond(tf.equal(index, 0), noted, lambda: tf.constant(False))
            return batch

        return tf.data.Dataset.zip((tf.data.Dataset.counter(), dataset)).map(look)

    def at_hand(self) -> str:
        """Returns the digest, or "" if the batch is not known before the first step."""
        return self._digest or ""

    def compare_at_hand(self, digests: list[str]) -> None:
        """Compares before the first step, if the batch is known then.

        Args:
            digests: What `at_hand` returned on each worker.

        Raises:
            ValueError: If the workers were given different data.
        """
        if any(digests):
            self._compare(digests)

    def compare(self) -> None:
        """Compares once, after the first step or before it; called on all workers.

        Raises:
            ValueError: If the workers were given different data.
        """
        if not self._is_compared:
            self._compare(exchange(self._strategy, _QUESTION, self.at_hand()))

    def _compare(self, digests: list[str]) -> None:
        self._is_compared = True
        known = [digest or "{}" for digest in digests]
        report = refuse_other_batches(known, self._is_augmented)
        if report and report not in _REPORTED and is_chief(self._strategy):
            _REPORTED.add(report)
            announce(report)

    def _is_augmented(self) -> bool:
        is_random = self._dataset is not None and has_random_operations(self._dataset)
        return "1" in exchange(self._strategy, "random inputs?", str(int(is_random)))


def _digest_at_hand(adapter: Any) -> str | None:
    if isinstance(adapter, array_data_adapter.ArrayDataAdapter):
        rows = adapter.batch_size
        return batch_digest(
            tf.nest.map_structure(lambda array: _first_rows(array, rows), adapter._inputs)
        )
    if isinstance(adapter, generator_data_adapter.GeneratorDataAdapter):
        return batch_digest(adapter._first_batches[0])
    if isinstance(adapter, GlobalBatchesAdapter):
        return _digest_of_pipeline(adapter)
    return None


def _digest_of_pipeline(adapter: GlobalBatchesAdapter) -> str:
    source = getattr(adapter.batches, "source", None)
    take = getattr(source, "take", None)  # of one with random access
    first: Any = ()
    if take is not None:
        rows = min(_PIPELINE_ROWS, adapter.batch_size)
        first = take(tf.range(rows, dtype=tf.int64))
    parts = first if isinstance(first, tuple) else (first,)
    known = np.asarray([adapter.order(), str(adapter.num_batches)])
    return digest_of_arrays(arrays_of(parts[:1]), [known, *arrays_of(parts[1:] or parts[:1])])


def _first_rows(array: Any, rows: int) -> Any:
    if isinstance(array, tf.SparseTensor):
        return tf.sparse.slice(array, [0] * array.shape.rank, [rows, *array.shape[1:]])
    if hasattr(array, "tocsr"):  # SciPy's
        return array.tocsr()[:rows].toarray()
    return None if array is None else array[:rows]


def _tensors(structure: Any) -> list[Any]:
    leaves = tf.nest.flatten(structure, expand_composites=True)
    return [leaf for leaf in leaves if is_data(leaf)]
