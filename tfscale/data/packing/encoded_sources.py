"""Sources as records: what a packed set of them contains."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfscale.data.batches import same_rows
from tfscale.data.composition.bucketing import Bucketed
from tfscale.data.composition.requirements import batch_spec
from tfscale.data.order import Order
from tfscale.data.packing.encoding import Encoder, described
from tfscale.data.packing.packed_source import PackedSource
from tfscale.data.sources import RandomAccessSource
from tfscale.data.sources.image_folder import ImageFolder
from tfscale.files import reason
from tfscale.records.manifest import Feature, feature_names

# Examples are read, encoded and written in pieces of about this size, by each job.
PIECE_BYTES = 2 << 20
_MOST_ROWS = 1024
# Sizes are measured for runs of examples: at these places for shards of equal bytes, and at fewer
# to choose how many examples to read at once.
_PLACES, _FEW_PLACES, _RUN = 64, 4, 16

Preprocess = Callable[[Any], Any]


class EncodedSource(Protocol):
    """Examples with random access, as the records of a packed set. Several threads use it.

    Attributes:
        num_examples: Number of examples. Positive.
        structure: See `Manifest`.
        features: See `Manifest`.
        record_bytes: About the bytes of a large record, and of what it is made of.
    """

    num_examples: int
    structure: Any
    features: tuple[Feature, ...]
    record_bytes: float

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns about how large records are.

        Returns:
            int64 [m + 1], bounds of ranges of examples, from 0 to `num_examples`; and
            float64 [m], the mean bytes of a record in each range.
        """

    def batches(self, first: int, stop: int) -> Iterator[list[bytes]]:
        """Yields the records of the examples [first, stop), several at a time."""


class EncodedExamples:
    """Examples of any source, as tensors: see `EncodedSource`.

    Epoch 0 in the order of the source is packed; a mixture has an order of its own.
    """

    def __init__(self, source: RandomAccessSource, preprocess: Preprocess | None = None) -> None:
        """Makes records of a source.

        Args:
            source: The examples.
            preprocess: Maps a batch to a batch with as many rows, or None.

        Raises:
            ValueError: If examples cannot be stored: see `described`.
        """
        if isinstance(source, Bucketed):
            raise ValueError(
                "`source` must not be bucketed, because its examples are padded by batch. "
                "Received: a bucketed source. Pack its source, and pass what `shards` returns "
                "to `bucketed`."
            )
        self.num_examples = source.num_examples

        def examples(indices: tf.Tensor) -> Any:
            batch = source.take(indices)
            return batch if preprocess is None else applied(preprocess, batch, indices)

        def read(first: tf.Tensor, stop: tf.Tensor) -> list[tf.Tensor]:
            with tf.device("CPU:0"):
                positions = tf.range(first, stop)
                batch = examples(source.indices(positions, tf.constant(0, tf.int64), Order(None)))
                parts: list[tf.Tensor] = tf.nest.flatten(batch)
                return parts

        number = tf.TensorSpec([], tf.int64)
        self._read = tf.function(read).get_concrete_function(number, number)
        spec = batch_spec(_Preprocessed(source, examples))
        parts = self._parts(0, 1)
        specs = [
            example_spec(of, part) for of, part in zip(tf.nest.flatten(spec), parts, strict=True)
        ]
        self.structure, self.features = described(tf.nest.pack_sequence_as(spec, specs))
        self._columns = Columns(self.structure, self.features)
        self._rows = 1
        _, means = _measured(self, _FEW_PLACES)
        self.record_bytes = float(means.max())
        self._rows = rows_of(self.record_bytes)

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """See `EncodedSource`: measured at some places."""
        return _measured(self, _PLACES)

    def batches(self, first: int, stop: int) -> Iterator[list[bytes]]:
        """See `EncodedSource`."""
        for start in range(first, stop, self._rows):
            end = min(start + self._rows, stop)
            yield self._columns.records(self._parts(start, end), start)

    def _parts(self, first: int, stop: int) -> list[Any]:
        try:
            return list(self._read(tf.constant(first, tf.int64), tf.constant(stop, tf.int64)))
        except tf.errors.OpError as error:
            raise unreadable(f"Examples {first} to {stop - 1} of the source", error) from error


class EncodedImages:
    """Files of an image folder, as they are: see `EncodedSource`."""

    def __init__(self, source: ImageFolder) -> None:
        """Makes records of images.

        Args:
            source: The images.
        """
        self._source = source
        self.num_examples = source.num_examples
        self.record_bytes = 4.0 * max(source.sizes)  # and its pixels
        size = source.decoding.image_size
        formats = tuple(sorted(ending.removeprefix(".") for ending in source.decoding.endings))
        self.features: tuple[Feature, ...] = (
            Feature("image", "uint8", source.image_shape, "image", size, formats),
            Feature("label", "int64", (), "int64"),
        )
        self.structure = {"tuple": ["image", "label"]}
        self._encoder = Encoder(self.features)
        text = tf.TensorSpec([None], tf.string)
        self._check = tf.function(self._checked).get_concrete_function(text, text)

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """See `EncodedSource`: the sizes of the files."""
        sizes = np.array(self._source.sizes, np.float64) + 64
        return np.arange(self.num_examples + 1), sizes

    def batches(self, first: int, stop: int) -> Iterator[list[bytes]]:
        """See `EncodedSource`. Every image is decoded once, to see that it can be."""
        start = first
        while start < stop:
            end, size = start + 1, self._source.sizes[start]
            while end < min(stop, start + _MOST_ROWS) and size < PIECE_BYTES:
                size += self._source.sizes[end]
                end += 1
            yield self._records(start, end)
            start = end

    def _records(self, first: int, stop: int) -> list[bytes]:
        paths = self._source.files[first:stop]
        images = [self._content(index) for index in range(first, stop)]
        formats = [path.rpartition(".")[2].lower().encode() for path in paths]
        try:
            self._check(tf.constant(images), tf.constant([path[-4:] for path in paths]))
        except tf.errors.OpError:
            for index in range(first, stop):
                self._source.decoded(index)  # raises the error that names the file
            raise
        labels = self._source.labels[first:stop]
        columns = {"image": images, "image/format": formats, "label": labels}
        return self._encoder.records(columns)

    def _content(self, index: int) -> bytes:
        path = self._source.files[index]
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise OSError(
                f"{path} could not be read: {reason(error)}. Restore or remove it, and run again."
            ) from error
        if len(content) != self._source.sizes[index]:
            raise ValueError(
                f"{path} changed while it was packed. Run again when its folder does not change."
            )
        return content

    def _checked(self, images: tf.Tensor, endings: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU:0"):
            return tf.map_fn(
                lambda pair: self._source.decoding.check(*pair),
                (images, endings),
                fn_output_signature=tf.uint8,
                parallel_iterations=1,  # a photograph takes many times its bytes
            )


class EncodedRecords:
    """Records of a packed set, as they are: see `EncodedSource`."""

    def __init__(self, source: PackedSource, kept: np.ndarray | None) -> None:
        """Makes records of a packed set.

        Args:
            source: The set.
            kept: int64 [n], the examples to take, or None for all.
        """
        self._source, self._kept = source, kept
        self.num_examples = source.num_examples if kept is None else len(kept)
        self.structure, self.features = source.manifest.structure, source.manifest.features
        # Not from the sizes of the shards, which may be compressed.
        self.record_bytes = 1.0
        _, means = _measured(self, _FEW_PLACES)
        self.record_bytes = float(means.max())

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """See `EncodedSource`: measured at some places."""
        return _measured(self, _PLACES)

    def batches(self, first: int, stop: int) -> Iterator[list[bytes]]:
        """See `EncodedSource`."""
        rows = rows_of(self.record_bytes)
        for start in range(first, stop, rows):
            indices = np.arange(start, min(start + rows, stop))
            if self._kept is not None:
                indices = self._kept[indices]
            yield self._source.reader.read(indices).tolist()


def _measured(encoded: EncodedSource, places: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `EncodedSource.sizes` from runs of records at some places."""
    bounds = np.unique(np.linspace(0, encoded.num_examples, places + 1).astype(np.int64))
    (record,) = next(encoded.batches(0, 1))
    run = min(_RUN, rows_of(4 * len(record)))
    means = []
    for first, stop in itertools.pairwise(bounds.tolist()):
        batches = encoded.batches(first, min(first + run, stop))
        sizes = [len(record) for records in batches for record in records]
        means.append(sum(sizes) / len(sizes))
    return bounds, np.array(means)


class Columns:
    """Makes records of batches of tensors."""

    def __init__(self, structure: Any, features: Sequence[Feature]) -> None:
        """See `described`."""
        self._encoder = Encoder(features)
        self._names = feature_names(structure)
        self._features = {feature.name: feature for feature in features}

    def records(self, parts: Sequence[Any], first: int) -> list[bytes]:
        """Returns the records of a batch.

        Args:
            parts: The parts of a batch, in the order of `tf.nest`.
            first: Index of its first example, for messages.

        Raises:
            ValueError: If a part has another shape than in the first example.
        """
        columns = {}
        for name, part in zip(self._names, parts, strict=True):
            feature = self._features[name]
            column = _column(part)
            wanted = feature.shape[1:] if None in feature.shape else feature.shape
            for row in column if None in feature.shape else column[:1]:
                found = row.shape[1:] if None in feature.shape else np.shape(row)
                if found != wanted:
                    raise ValueError(
                        f"`source` must have examples of one shape. Received: part {name!r} of "
                        f"shape {np.shape(row)} in an example from {first} on, where the first "
                        f"has {feature.shape}. Give all one shape with preprocess=."
                    )
            columns[name] = column
        return self._encoder.records(columns)


def applied(preprocess: Preprocess, batch: Any, indices: tf.Tensor) -> Any:
    """Returns what a user's function makes of a batch, with a check of its rows."""
    return same_rows("preprocess", preprocess(batch), indices)


def rows_of(record_bytes: float) -> int:
    """Returns how many examples to read at once."""
    return int(max(1, min(_MOST_ROWS, PIECE_BYTES // max(record_bytes, 1))))


def unreadable(what: str, error: tf.errors.OpError) -> ValueError:
    """Returns the error about examples that cannot be read."""
    said = str(error.message)
    if own := re.search(r"assertion failed: \[(`.+?)\](?: \[|\s*$)", said, re.DOTALL):
        return ValueError(f"{what} could not be read: {own[1]}")
    # Before what failed are where TensorFlow's nodes were defined, and names of datasets.
    said = said.partition("defined at (most recent call last):")[2] or said
    said = re.sub(r"^.* transformation with iterator: (Iterator::\S+: )?", "", said)
    lines = [line for line in said.splitlines() if line.strip() and line[0] != " "]
    return ValueError(f"{what} could not be read: {lines[0] if lines else type(error).__name__}")


class _Preprocessed(RandomAccessSource):
    """What `batch_spec` needs of a source whose batches are changed."""

    def __init__(self, source: RandomAccessSource, take: Callable[[tf.Tensor], Any]) -> None:
        self.num_examples, self.fingerprint = source.num_examples, source.fingerprint
        self._take = take

    def take(self, indices: tf.Tensor) -> Any:
        return self._take(indices)


def _column(part: Any) -> Any:
    """Returns the rows of a part of a batch."""
    if not isinstance(part, tf.RaggedTensor):
        return part.numpy()
    values, splits = part.values.numpy(), part.row_splits.numpy().tolist()
    return [values[start:end] for start, end in itertools.pairwise(splits)]


def example_spec(spec: Any, part: Any) -> Any:
    """Returns the spec of one example of a part of batches.

    A dimension that the spec does not know is that of the first example.
    """
    if isinstance(spec, tf.RaggedTensorSpec) and spec.ragged_rank == 1:
        inner = part.values.shape[1:]
        return tf.TensorSpec([None, *inner], spec.dtype)
    if isinstance(spec, tf.TensorSpec) and isinstance(part, tf.Tensor):
        return tf.TensorSpec(part.shape[1:], spec.dtype)
    return spec
