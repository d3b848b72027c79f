"""Predictions of a whole split: in order, on all replicas, in bounded memory.

    confusion = predict_split(model, image_set.read("test"), num_classes=10, batch_size=96,
                              path="predictions.csv")

The file has one line per example, in the order of the split:

    row,label,prediction,probability
    0,7,7,0.9981
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from typing import Any, BinaryIO

import keras
import numpy as np
import tensorflow as tf

from tfscale.data import ImageFolder
from tfscale.files import reason, whole_files

COLUMNS = ("row", "label", "prediction", "probability")
CHUNK_BYTES = 2**25

Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def predict_split(
    model: keras.Model,
    source: Pair | tf.data.Dataset | ImageFolder,
    *,
    num_classes: int | None,
    batch_size: int,
    path: str | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> np.ndarray[Any, Any] | None:
    """Predicts every example of a split, counts the confusions and writes the predictions.

    One chunk of the split is in memory at a time. Every worker makes the same calls and reads the
    whole split; each replica computes its replica batch.

    Args:
        model: A model that returns logits [batch, num_classes].
        source: `(images, labels)`: arrays, or a `tf.data.Dataset` of single examples whose order is
            the same each time it is read; or a folder of images.
        num_classes: Classes of the confusion matrix, which has their square as entries; labels are
            in [0, num_classes). None counts nothing.
        batch_size: Examples of all replicas in one step. Positive.
        path: File to write, local or of a file system that `tf.io.gfile` knows; None if this
            process does not write. The file appears under its name once it is complete.
        chunk_bytes: Bytes of images in memory at a time; at least one batch is.

    Returns:
        int64 [num_classes, num_classes]: row i, column j counts examples of class i predicted as
        j. None if nothing is counted.

    Raises:
        OSError: If the file cannot be written. An earlier file is unchanged.
    """
    confusion = None if num_classes is None else np.zeros((num_classes, num_classes), np.int64)
    with contextlib.ExitStack() as open_files:
        writer = open_files.enter_context(_csv_writer(path)) if path else None
        row = 0
        for images, labels in _chunks(source, batch_size, chunk_bytes):
            floats = images.astype(keras.config.floatx())
            logits = model.predict(floats, batch_size=batch_size, verbose=0).astype(np.float64)
            predicted = logits.argmax(axis=1)
            # The softmax of the largest logit: 1 over the sum of all exponentials relative to it.
            probability = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
            if confusion is not None:
                np.add.at(confusion, (labels, predicted), 1)
            if writer is not None:
                rows = range(row, row + len(labels))
                columns = (rows, labels.tolist(), predicted.tolist(), probability.tolist())
                writer.writerows(zip(*columns, strict=True))
            row += len(labels)
    return confusion


def _chunks(
    source: Pair | tf.data.Dataset | ImageFolder, batch_size: int, chunk_bytes: int
) -> Iterator[Pair]:
    """Yields the split in chunks of whole batches; the last chunk may be shorter."""
    if isinstance(source, tf.data.Dataset):
        spec = source.element_spec[0]
        example_bytes = int(np.prod(spec.shape)) * spec.dtype.size
    elif isinstance(source, ImageFolder):
        example_bytes = int(np.prod(source.image_shape))
    else:
        example_bytes = max(1, source[0][:1].nbytes)
    rows = max(1, chunk_bytes // (example_bytes * batch_size)) * batch_size
    if isinstance(source, ImageFolder):
        for start in range(0, source.num_examples, rows):
            end = min(start + rows, source.num_examples)
            images, labels = source.take(tf.range(start, end, dtype=tf.int64))
            yield images.numpy(), labels.numpy()
    elif isinstance(source, tf.data.Dataset):
        yield from source.batch(rows).prefetch(1).as_numpy_iterator()
    else:
        images, labels = source
        for start in range(0, len(images), rows):
            yield images[start : start + rows], labels[start : start + rows]


@contextlib.contextmanager
def _csv_writer(path: str) -> Iterator[Any]:
    """Opens a file that appears under its name once it is complete."""
    try:
        with whole_files(path) as (file,):
            writer = csv.writer(_Encoded(file), lineterminator="\n")
            writer.writerow(COLUMNS)
            yield writer
    except OSError as error:
        raise OSError(
            f"The predictions could not be written to {path}: {reason(error)}. Make room there, or "
            "choose another file."
        ) from error


class _Encoded:
    """Encodes text for a binary file; `write` is all that the module csv needs."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8"))
