"""A source without random access: a stream of single examples."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True, eq=False)
class StreamSource:
    """A `tf.data.Dataset` of single examples, without random access.

    Attributes:
        dataset: Single examples, in the same order in every iteration.
        num_examples: Examples of one iteration. Positive.
    """

    dataset: tf.data.Dataset
    num_examples: int


def known_cardinality(dataset: tf.data.Dataset) -> int:
    """Returns the number of examples of a dataset.

    Raises:
        ValueError: If it is unknown, endless or zero.
    """
    cardinality = int(dataset.cardinality())
    if cardinality > 0:
        return cardinality
    received, cure = {
        int(tf.data.INFINITE_CARDINALITY): (
            "an endless one",
            "Omit repeat(), because a pipeline repeats automatically, or use dataset.take(n)",
        ),
        int(tf.data.UNKNOWN_CARDINALITY): (
            "an unknown number of examples",
            "Count them, and use dataset.apply(tf.data.experimental.assert_cardinality(n))",
        ),
    }.get(cardinality, ("no example", "Check its files and filters"))
    raise ValueError(
        "`source` must be a tf.data.Dataset with a known, positive number of single examples. "
        f"Received: {received}. {cure}."
    )
