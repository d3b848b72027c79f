"""Batches that are in memory already: the input without its work, in the same shapes.

They are the ceiling: no input is faster. Their static shapes are those of the input, so that a
training step is the same program with both.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfscale.data.pipeline import Pipeline


class PipelineInMemory:
    """The first global batch of a pipeline, again and again, without an end.

    Args:
        pipeline: For a strategy of one worker.

    Attributes:
        strategy: That of the pipeline.
        global_batch_size: That of the pipeline.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.strategy = pipeline.strategy
        self.global_batch_size = pipeline.global_batch_size
        self._counted = _kept(pipeline.replica_batches(0), pipeline.local_replicas)
        self._plain = _kept(pipeline.local(0), pipeline.local_replicas)

    @property
    def element_spec(self) -> Any:
        """Structure of `tf.TypeSpec` of a replica batch."""
        return self._plain.element_spec

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns the replica batches."""
        return self._plain

    def replica_batches(self, worker: int) -> tf.data.Dataset:
        """Returns the replica batches with the row counts that `fit` needs."""
        return self._counted


def dataset_in_memory(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the first batch of a dataset, again and again.

    Raises:
        ValueError: If it has none.
    """
    return _kept(dataset, 1)


def batch_of(dataset: tf.data.Dataset, elements: int) -> Any:
    """Returns the first elements of a dataset, with their rows joined; None if that is impossible.

    Args:
        dataset: Of batches of dense tensors.
        elements: How many. Positive.
    """
    batches = list(dataset.take(elements))
    specs = tf.nest.flatten(dataset.element_spec)
    if not batches or not all(
        isinstance(spec, tf.TensorSpec) and spec.shape.rank for spec in specs
    ):
        return None
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *batches)


def repeated_rows(batch: Any, times: int) -> tf.data.Dataset:
    """Returns an endless dataset of one batch in memory that has each row several times."""
    larger = tf.nest.map_structure(lambda part: tf.repeat(part, times, axis=0), batch)
    return tf.data.Dataset.from_tensors(larger).repeat()


def size_in_bytes(batch: Any) -> int:
    """Returns the bytes of the tensors of a batch; strings count by their number of characters."""
    total = 0
    for part in tf.nest.flatten(batch, expand_composites=True):
        tensor = tf.convert_to_tensor(part)
        if tensor.dtype == tf.string:
            total += int(tf.reduce_sum(tf.strings.length(tensor)))
        else:
            total += int(tf.size(tensor)) * tensor.dtype.size
    return total


def _kept(dataset: tf.data.Dataset, elements: int) -> tf.data.Dataset:
    kept = [_endless(element, dataset.element_spec) for element in dataset.take(elements)]
    if not kept:
        raise ValueError(
            "`SOURCE` must have at least one batch. Received: an input without one. Check its "
            "files and filters."
        )
    whole = kept[0]
    for each in kept[1:]:
        whole = whole.concatenate(each)
    return whole.repeat()


def _endless(element: Any, spec: Any) -> tf.data.Dataset:
    """A dataset of one element, with static shapes that are no more than those of `spec`."""
    parts = tf.nest.flatten(element, expand_composites=True)
    specs = tf.nest.flatten(spec, expand_composites=True)

    def make(_: tf.Tensor) -> Any:
        loose = [
            tf.compat.v1.placeholder_with_default(part, known.shape)
            for part, known in zip(parts, specs, strict=True)
        ]
        return tf.nest.pack_sequence_as(spec, loose, expand_composites=True)

    return tf.data.Dataset.range(1).map(make)
