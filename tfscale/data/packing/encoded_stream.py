"""A `tf.data.Dataset` as records: it is read once, from its beginning to its end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfscale.data.batches import same_rows
from tfscale.data.composition.evaluation import as_values
from tfscale.data.packing.encoded_sources import (
    Columns,
    Preprocess,
    applied,
    example_spec,
    rows_of,
    unreadable,
)
from tfscale.data.packing.encoding import described
from tfscale.data.sources.stream import known_cardinality

Keep = Callable[[Any], tf.Tensor]

_SAMPLES = 16


class EncodedStream:
    """Examples of a `tf.data.Dataset` as records.

    Attributes:
        num_examples: Number of examples, or None if it is unknown.
        structure: See `Manifest`.
        features: See `Manifest`.
        fingerprint: Hash of the specs, the number, and the first examples.
    """

    def __init__(
        self, dataset: tf.data.Dataset, keep: Keep | None, preprocess: Preprocess | None
    ) -> None:
        """Makes records of a dataset.

        Args:
            dataset: Single examples, the same in every iteration.
            keep: Maps a batch to bool [n], or None for all examples.
            preprocess: Maps a batch to a batch with as many rows, or None.

        Raises:
            ValueError: If it has no example, is endless, or examples cannot be stored.
        """
        is_unknown = int(dataset.cardinality()) == int(tf.data.UNKNOWN_CARDINALITY)
        count = None if is_unknown else known_cardinality(dataset)
        self._keep, self._preprocess = keep, preprocess
        self._dataset = _with_shapes(dataset, self._first(dataset))
        self.num_examples = count if keep is None else None
        batches = self._prepared(self._dataset, 1)
        parts = tf.nest.flatten(self._first(batches))
        spec = batches.element_spec
        specs = [example_spec(*pair) for pair in zip(tf.nest.flatten(spec), parts, strict=True)]
        del parts
        self.structure, self.features = described(tf.nest.pack_sequence_as(spec, specs))
        self._columns = Columns(self.structure, self.features)
        digest, largest = hashlib.sha256(), 1
        for records in self._records(self._prepared(self._dataset.take(_SAMPLES), 1), 0):
            for record in records:
                digest.update(record)
                largest = max(largest, len(record))
        self._rows = rows_of(largest)
        self.fingerprint = f"stream of {self.num_examples} examples, {digest.hexdigest()[:32]}"

    def batches(self, skipped: int) -> Iterator[list[bytes]]:
        """Yields records, several at a time.

        Args:
            skipped: Examples that are left out at the beginning. Not negative.

        Raises:
            ValueError: If an example cannot be read, or has another shape than the first.
        """
        if self._keep is None:
            yield from self._records(
                self._prepared(self._dataset.skip(skipped), self._rows), skipped
            )
            return
        seen = 0
        for records in self._records(self._prepared(self._dataset, self._rows), 0):
            if seen + len(records) > skipped:
                yield records[max(0, skipped - seen) :]
            seen += len(records)

    def _records(self, batches: tf.data.Dataset, first: int) -> Iterator[list[bytes]]:
        iterator = iter(batches)
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except tf.errors.OpError as error:
                raise unreadable(f"The dataset, from example {first} on,", error) from error
            records = self._columns.records(tf.nest.flatten(batch), first)
            del batch  # it may be large, and the records are written before the next
            first += len(records)
            if records:
                yield records

    def _prepared(self, dataset: tf.data.Dataset, rows: int) -> tf.data.Dataset:
        batches = dataset.ragged_batch(rows)
        if self._keep is not None:
            kept = batches.map(self._kept, num_parallel_calls=2, deterministic=True)
            batches = kept.filter(lambda *parts: _rows(parts) > 0)
        if self._preprocess is not None:
            batches = batches.map(self._changed, num_parallel_calls=2, deterministic=True)
        return batches if rows == 1 else batches.prefetch(1)

    def _kept(self, *parts: Any) -> Any:
        batch = parts[0] if len(parts) == 1 else parts
        assert self._keep is not None
        kept = as_values(self._keep(batch), "keep", tf.bool)
        kept = same_rows("keep", tf.ensure_shape(kept, [None]), tf.range(_rows(batch)))
        return tf.nest.map_structure(lambda part: tf.ragged.boolean_mask(part, kept), batch)

    def _changed(self, *parts: Any) -> Any:
        assert self._preprocess is not None
        batch = parts[0] if len(parts) == 1 else parts
        return applied(self._preprocess, batch, tf.range(_rows(batch)))

    @staticmethod
    def _first(dataset: tf.data.Dataset) -> Any:
        try:
            for element in dataset.take(1):
                return element
        except tf.errors.OpError as error:
            raise unreadable("The first example of the dataset", error) from error
        raise ValueError(
            "`source` must have at least one example. Received: a tf.data.Dataset without one. "
            "Check its files and filters."
        )


def _rows(batch: Any) -> tf.Tensor:
    first = tf.nest.flatten(batch)[0]
    return first.nrows() if isinstance(first, tf.RaggedTensor) else tf.shape(first, tf.int64)[0]


def _with_shapes(dataset: tf.data.Dataset, example: Any) -> tf.data.Dataset:
    """Gives examples the shape of the first one, except for parts whose first dimension differs."""
    specs = tf.nest.flatten(dataset.element_spec)
    shapes: list[Any] = []
    for spec, part in zip(specs, tf.nest.flatten(example), strict=True):
        if not isinstance(spec, (tf.TensorSpec, tf.RaggedTensorSpec)) or spec.shape.rank is None:
            shapes.append(None)
            continue
        is_ragged = spec.shape.rank and spec.shape[0] is None and None not in spec.shape[1:]
        shapes.append(None if is_ragged or None not in tuple(spec.shape) else part.shape)
    if not any(shape is not None for shape in shapes):
        return dataset

    def shaped(*parts: Any) -> Any:
        element = parts[0] if len(parts) == 1 else parts
        found = [
            part if shape is None else tf.ensure_shape(part, shape)
            for part, shape in zip(tf.nest.flatten(element), shapes, strict=True)
        ]
        return tf.nest.pack_sequence_as(element, found)

    return dataset.map(shaped, num_parallel_calls=2, deterministic=True)
