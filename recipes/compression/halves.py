"""Test data in two halves: one to choose a chain with, one to measure what was chosen."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfscale
from tfscale.data import Pipeline, RandomAccessSource


class SomeRows(RandomAccessSource):
    """Some rows of another source.

    Args:
        source: All rows.
        chosen: Their indices, int64 [n]. At least one.
    """

    def __init__(self, source: RandomAccessSource, chosen: np.ndarray[Any, Any]) -> None:
        self._source = source
        self._chosen = np.asarray(chosen, "int64")
        self.num_examples = len(self._chosen)
        self.fingerprint = f"{self._chosen.tolist()} of {source.fingerprint}"

    def take(self, indices: tf.Tensor) -> Any:
        """Returns rows as a batch."""
        return self._source.take(tf.gather(self._chosen, indices))


def halves(test: Any, seed: int) -> list[Any]:
    """Divides test data at random into two halves.

    Args:
        test: A pipeline of a source with random access, or `(x, y)` of arrays.
        seed: Of the division.

    Raises:
        ValueError: If the rows cannot be taken by index, or there are too few.
    """
    if not isinstance(test, Pipeline):
        x, y = test
        first, second = _divided(len(y), seed, at_least=1)
        return [
            (keras.tree.map_structure(lambda array, own=own: array[own], x), y[own])
            for own in (first, second)
        ]
    if not isinstance(test.source, RandomAccessSource):
        raise ValueError(
            "`--target_size` and `--max_accuracy_loss` need test data with random access, which "
            f"are divided into two halves. Received: a {type(test.source).__name__}. Give a "
            "chain by flags, without a search."
        )
    replicas = test.strategy.num_replicas_in_sync
    return [
        tfscale.data.input_pipeline(
            SomeRows(test.source, own),
            test.strategy,
            global_batch_size=min(test.global_batch_size, len(own) // replicas * replicas),
            shuffle=False,
            preprocess=test.preprocess,
        )
        for own in _divided(test.source.num_examples, seed, at_least=replicas)
    ]


def _divided(rows: int, seed: int, *, at_least: int) -> tuple[Any, Any]:
    if rows < 2 * at_least:
        raise ValueError(
            "`--target_size` and `--max_accuracy_loss` divide the test data into two halves. "
            f"Received: {rows} rows. Give a chain by flags, without a search."
        )
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[: rows // 2]), np.sort(order[rows // 2 :])
