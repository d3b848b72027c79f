"""Reads all examples of a source once, several batches at a time, into a cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from strategies.extension import announce
from tfscale.data.cache.row_format import RowFormat, Rows
from tfscale.data.cache.stored_rows import Sink
from tfscale.data.packing.encoded_sources import unreadable
from tfscale.data.sources import RandomAccessSource
from tfscale.files.room import megabytes

# A batch that is read has at most this many examples and, if their size is known, bytes.
_BATCH_ROWS = 256
_BATCH_BYTES = 8 << 20
_FIRST_LINE_SECONDS = 3.0
_SECONDS_BETWEEN_LINES = 10.0


def fill(
    source: RandomAccessSource,
    row_format: RowFormat,
    sink: Sink,
    *,
    name: str,
    check_size: Callable[[int], None],
) -> None:
    """Reads all examples into a sink.

    Args:
        source: The examples.
        row_format: How they are stored.
        sink: Takes the rows.
        name: The cache, for lines of progress.
        check_size: Called with the bytes so far; raises if they are too many.

    Raises:
        ValueError: If an example cannot be read, or the source returns another number of examples
            than it was asked for.
    """
    count = source.num_indices
    batch = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(row_format.header_bytes, 1)))
    began = time.monotonic()
    next_line = _FIRST_LINE_SECONDS
    starts = tf.data.Dataset.range(0, count, batch)
    indices = starts.map(lambda start: tf.range(start, tf.minimum(start + batch, count)))
    done = 0
    for rows in _rows_at(source, row_format, indices):
        wanted = min(batch, count - done)
        if len(rows) != wanted:
            raise ValueError(
                f"A source must return {wanted} examples for as many indices. Received: "
                f"{len(rows)}. Check its `take`."
            )
        sink.add(rows)
        check_size(sink.size)
        done += len(rows)
        spent = time.monotonic() - began
        if spent > next_line:
            next_line = spent + _SECONDS_BETWEEN_LINES
            left = spent * (count - done) / done
            announce(
                f"cache {name}: {done:,} of {count:,} examples, {megabytes(sink.size)}, about "
                f"{left:.0f} s left"
            )


def sampled_rows(
    source: RandomAccessSource, row_format: RowFormat, indices: np.ndarray
) -> list[Rows]:
    """Returns the rows of some examples, one `Rows` each."""
    starts = tf.data.Dataset.from_tensor_slices(indices.astype(np.int64)).batch(1)
    return list(_rows_at(source, row_format, starts))


def _rows_at(
    source: RandomAccessSource, row_format: RowFormat, indices: tf.data.Dataset
) -> Iterator[Rows]:
    batches = indices.map(
        lambda rows: tuple(row_format.tensors(source.take(rows))),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    found = batches.prefetch(2).as_numpy_iterator()
    while True:
        try:
            arrays = next(found)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise unreadable("The source", error) from error
        yield row_format.rows(list(arrays))
