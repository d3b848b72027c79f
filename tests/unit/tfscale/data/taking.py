"""Rows of a source, for the tests of sources."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def taken(source: Any, rows: list[int]) -> Any:
    """Rows of a source, taken in a dataset as a pipeline does."""
    dataset = tf.data.Dataset.from_tensors(tf.constant(rows, tf.int64))
    return next(iter(dataset.map(source.take)))
