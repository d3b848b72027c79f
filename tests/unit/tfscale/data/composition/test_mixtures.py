from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import BlockShuffle, RandomAccessSource, filtered, mixture
from tfscale.data.order import Order

ORDER = Order(7)


def epoch_of(source: RandomAccessSource, epoch: int, order: Order = ORDER) -> np.ndarray:
    """The examples of an epoch."""
    positions = tf.range(source.num_examples, dtype=tf.int64)
    indices = source.indices(positions, tf.constant(epoch, tf.int64), order)
    rows: np.ndarray = source.take(indices).numpy()
    return rows


def test_proportions_hold_at_every_point_of_an_epoch() -> None:
    weights = [5, 3, 1, 0.25]
    source = mixture([(np.full([10**4], i), w) for i, w in enumerate(weights)], until=10**4)
    counts = np.cumsum(epoch_of(source, 0)[:, np.newaxis] == np.arange(4), axis=0)
    due = np.arange(1, 10**4 + 1)[:, np.newaxis] * np.array(weights) / sum(weights)
    assert np.abs(counts - due).max() <= 2


@pytest.mark.parametrize("weights", [(0.1, 0.2), (Fraction(1, 3), Fraction(2, 3)), (1, 2)])
def test_proportions_of_decimals_and_fractions_are_exact(weights: tuple[Any, Any]) -> None:
    source = mixture([(np.zeros([10**4]), weights[0]), (np.ones([10**4]), weights[1])], until=9999)
    assert epoch_of(source, 0).sum() == 6666


def test_a_decimal_is_the_number_that_was_written() -> None:
    source = mixture([(np.zeros([9]), 0.1), (np.ones([9]), 0.9)])
    assert "examples: 1/10 of [" in source.fingerprint


def test_weights_without_a_short_schedule_are_rounded_to_one_part_in_65536() -> None:
    weights = [np.pi, np.e, 1e-9]
    source = mixture([(np.full([10**5], i), w) for i, w in enumerate(weights)], until=2**16)
    counts = np.bincount(epoch_of(source, 0), minlength=3)
    assert counts == pytest.approx(2**16 * np.array(weights) / sum(weights), abs=2)
    assert counts[2] == 1  # a source with a positive weight is drawn


@pytest.mark.parametrize(
    ("until", "length", "draws"),
    [
        # The schedule 0 0 1 0, 0 0 1 0, ...: the eleventh draw of source 0 is at position 13.
        ("first", 13, (10, 3)),
        # The fourth draw of source 1 is at position 14.
        ("all", 15, (11, 4)),
        (6, 6, (5, 1)),
    ],
)
def test_an_epoch_ends_where_it_should(until: Any, length: int, draws: tuple[int, int]) -> None:
    source = mixture([(np.arange(10), 3), (np.arange(100, 104), 1)], until=until)
    for epoch in range(3):
        rows = epoch_of(source, epoch)
        assert (len(rows), (rows < 100).sum(), (rows >= 100).sum()) == (length, *draws)


def test_a_large_source_continues_in_the_next_epoch_until_all_of_it_was_seen() -> None:
    source = mixture([(np.arange(1000), 1), (np.arange(1000, 1030), 1)])
    epochs = [epoch_of(source, epoch) for epoch in range(100)]
    # 31 draws an epoch, because the small source would repeat with the draw after the 31st.
    large = np.concatenate([rows[rows < 1000] for rows in epochs])[:3000].reshape(3, 1000)
    for seen in large:
        np.testing.assert_array_equal(np.sort(seen), np.arange(1000))
    assert (large[0] != large[1]).any()
    for rows in epochs:
        np.testing.assert_array_equal(np.sort(rows[rows >= 1000]), np.arange(1000, 1030))


def test_with_all_every_epoch_has_every_example() -> None:
    # 34 draws of the 20: one pass and a part, which must not be parts of three passes.
    source = mixture([(np.arange(20), 3), (np.arange(100, 123), 2)], until="all")
    for epoch in range(5):
        assert set(epoch_of(source, epoch)) == {*range(20), *range(100, 123)}


def test_equal_sources_have_different_orders() -> None:
    source = mixture([(np.arange(500), 1), (np.arange(500), 1)])
    rows = epoch_of(source, 0)
    assert (rows[0::2] == rows[1::2]).sum() < 12  # Poisson(1)


def test_epochs_may_be_given_for_each_position() -> None:
    source = mixture([(np.arange(50), 2), (np.arange(100, 130), 1)])
    epochs = np.arange(60) % 5
    positions = np.arange(60) * 7 % source.num_examples
    found = source.take(source.indices(tf.constant(positions), tf.constant(epochs), Order(7)))
    expected = [epoch_of(source, int(epoch))[p] for epoch, p in zip(epochs, positions, strict=True)]
    np.testing.assert_array_equal(found, expected)


def test_mixtures_and_filters_nest() -> None:
    inner = mixture([(np.arange(20), 1), (np.arange(100, 120), 1)])
    outer = mixture({inner: 1, filtered(np.arange(200, 300), lambda x: x % 2 == 0): 1})
    assert outer.num_examples == 80
    for epoch in range(4):
        rows = epoch_of(outer, epoch)
        expected = [*range(20), *range(100, 120)]
        np.testing.assert_array_equal(np.sort(rows[rows < 200]), expected)
        assert len(set(rows[rows >= 200])) in range(25, 41)


def test_ragged_examples_keep_their_rows() -> None:
    first = tf.ragged.constant([[i] * (i % 4) for i in range(10)], dtype=tf.int64)
    second = tf.ragged.constant([[100 + i] * (i % 3) for i in range(6)], dtype=tf.int64)
    source = mixture([(first, 1), (second, 1)])
    indices = [3, 12, 11, 3, 0, 15]
    rows = source.take(tf.constant(indices, tf.int64))
    assert rows.to_list() == [[3] * 3, [102] * 2, [101], [3] * 3, [], [105] * 2]
    assert source.take(tf.zeros([0], tf.int64)).to_list() == []


def test_block_shuffle_reaches_the_parts() -> None:
    source = mixture([(np.arange(1000), 1), (np.arange(1000, 2000), 1)])
    rows = epoch_of(source, 0, Order(7, BlockShuffle(block=10, window=1)))[0::2]
    for block in np.split(rows, 100):
        assert len(set(block // 10)) <= 2


@pytest.mark.parametrize(
    ("sources", "until", "message"),
    [
        ([(np.arange(3), 1)], "first", "at least two pairs"),
        ([np.arange(3), np.arange(3), np.arange(3)], "first", "at least two pairs"),
        ([(np.arange(3), 1), (np.arange(3), 0)], "first", "`weight` must be a positive number"),
        ([(np.arange(3), 1), (np.arange(3), "2")], "first", "`weight` must be a positive number"),
        ([(np.arange(3), 1), (np.arange(3), 1)], "last", "`until` must be a positive integer"),
        ([(np.arange(3), 1), (np.arange(3), 1)], 0, "`until` must be a positive integer"),
        ([(np.arange(3), 1), (np.arange(3.0), 1)], "first", "Received: x of source 0 is"),
        (
            [({"a": np.zeros([3, 2])}, 1), ({"a": np.zeros([3, 4])}, 1)],
            "first",
            r"Received: x\['a'\] of source 0 is .* of source 1",
        ),
        (
            [({"a": np.zeros(3)}, 1), ({"a": np.zeros(3), "b": np.zeros(3)}, 1)],
            "first",
            r"Received: x\['b'\] of source 0 is nothing",
        ),
        ([((np.arange(3),), 1), ([np.arange(3), np.arange(3)], 1)], "first", "Received: y of"),
        ([(np.arange(3), 1), (tf.data.Dataset.range(3), 1)], "first", "must have random access"),
    ],
)
def test_what_cannot_be_mixed_is_refused(sources: Any, until: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixture(sources, until=until)
