from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import RandomAccessSource, filtered, mapped, mixture


def content(source: RandomAccessSource) -> list[int]:
    rows: list[int] = source.take(tf.range(source.num_indices, dtype=tf.int64)).numpy().tolist()
    return rows


def test_examples_are_those_of_the_function_also_filtered_and_mixed() -> None:
    squares = mapped(np.arange(6), lambda x: x * x)
    assert content(squares) == [0, 1, 4, 9, 16, 25]
    assert content(filtered(squares, lambda x: x > 5)) == [9, 16, 25]
    mixed = mixture([(np.arange(3), 1), (np.arange(10, 12), 1)])
    assert content(mapped(mixed, lambda x: -x)) == [0, -1, -2, -10, -11]


def test_the_fingerprint_differs_if_the_function_does() -> None:
    x = np.arange(6)
    found = [
        mapped(x, lambda x: x + 1),
        mapped(x, lambda x: x + 2),
        mapped(x, lambda x: x + 2, version="1"),
    ]
    assert len({source.fingerprint for source in found}) == 3
    assert mapped(x, lambda x: x + 1).fingerprint == found[0].fingerprint


def test_a_function_must_keep_the_number_of_examples() -> None:
    source = mapped(np.arange(6), lambda x: x[:1])
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="`fn` must return as"):
        source.take(tf.constant([1, 2], tf.int64))
