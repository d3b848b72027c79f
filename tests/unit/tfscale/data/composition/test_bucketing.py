from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import BlockShuffle, bucketed, filtered, input_pipeline, mixture
from tfscale.data.order import Order

LENGTHS = np.random.default_rng(0).integers(1, 13, 100)
BOUNDARIES = [4, 8, 12]
ONE = tf.distribute.OneDeviceStrategy("CPU:0")


def ragged(lengths: Any) -> tf.RaggedTensor:
    """Row i has as many numbers i + 1."""
    values = tf.repeat(tf.range(1, len(lengths) + 1), tf.constant(lengths, tf.int64))
    return tf.RaggedTensor.from_row_lengths(values, tf.constant(lengths, tf.int64))


def batches(pipeline: Any, epochs: int = 1) -> list[np.ndarray]:
    steps = pipeline.steps_per_epoch * epochs
    return list(pipeline.local(0).take(steps).as_numpy_iterator())


def test_a_batch_has_examples_of_one_bucket_padded_to_its_boundary() -> None:
    pipeline = input_pipeline(bucketed(ragged(LENGTHS), boundaries=BOUNDARIES), ONE, 8)
    found = batches(pipeline)
    seen: list[int] = []
    for batch in found:
        of_batch = batch[:, 0] - 1
        seen.extend(of_batch)
        boundary = batch.shape[1]
        assert boundary in BOUNDARIES
        lengths = LENGTHS[of_batch]
        assert ((lengths <= boundary) & (lengths > boundary - 4)).all()
        expected = np.where(np.arange(boundary) < lengths[:, None], of_batch[:, None] + 1, 0)
        np.testing.assert_array_equal(batch, expected)
    assert sorted(seen) == list(range(100))
    sizes = np.bincount((LENGTHS - 1) // 4)
    assert pipeline.steps_per_epoch == len(found) == sum(-(-size // 8) for size in sizes)


def test_every_epoch_has_other_batches_in_another_order() -> None:
    pipeline = input_pipeline(bucketed(ragged(LENGTHS), boundaries=BOUNDARIES), ONE, 8)
    steps = pipeline.steps_per_epoch
    found = batches(pipeline, epochs=2)
    widths = [[batch.shape[1] for batch in part] for part in (found[:steps], found[steps:])]
    assert widths[0] != widths[1]
    assert sorted(widths[0]) == sorted(widths[1])
    assert widths[0] != sorted(widths[0])
    epochs = [{frozenset(batch[:, 0]) for batch in part} for part in (found[:steps], found[steps:])]
    assert len(epochs[0] & epochs[1]) < 2


def test_without_shuffling_batches_come_bucket_by_bucket() -> None:
    source = bucketed(ragged(LENGTHS), boundaries=BOUNDARIES)
    found = batches(input_pipeline(source, ONE, 8, shuffle=False))
    order = np.concatenate([batch[:, 0] - 1 for batch in found])
    np.testing.assert_array_equal(order, np.argsort((LENGTHS - 1) // 4, kind="stable"))


def test_only_full_batches_remain_where_the_remainder_is_dropped() -> None:
    source = bucketed(ragged(LENGTHS), boundaries=BOUNDARIES)
    pipeline = input_pipeline(source, ONE, 8, drop_remainder=True)
    found = batches(pipeline)
    assert {len(batch) for batch in found} == {8}
    assert len(found) == sum(np.bincount((LENGTHS - 1) // 4) // 8)


def test_one_boundary_pads_all_to_a_static_shape() -> None:
    pairs = {"tokens": ragged([1, 3, 2]), "label": np.arange(3)}
    source = bucketed(pairs, boundaries=[5], pad_value=-1)
    pipeline = input_pipeline(source, ONE, 3, shuffle=False, drop_remainder=True)
    assert pipeline.element_spec["tokens"] == tf.TensorSpec([3, 5], tf.int32)
    (batch,) = batches(pipeline)
    assert batch["tokens"].tolist() == [[1] + [-1] * 4, [2] * 3 + [-1] * 2, [3] * 2 + [-1] * 3]
    assert batch["label"].tolist() == [0, 1, 2]


def test_the_longest_part_decides_where_parts_differ_in_length() -> None:
    source = bucketed((ragged([1, 5]), ragged([3, 2])), boundaries=[4, 8])
    first, second = (source.take(tf.constant([i], tf.int64)) for i in (0, 1))
    assert [part.shape for part in first] == [(1, 4), (1, 4)]
    assert [part.shape for part in second] == [(1, 8), (1, 8)]


def test_lengths_may_be_those_of_a_function() -> None:
    source = bucketed(
        (ragged([1, 5]), np.array([7, 2])),
        boundaries=[6, 8],
        length_of=lambda batch: batch[1],
        longer="truncate",
    )
    assert source.take(tf.constant([0], tf.int64))[0].shape == (1, 8)


def test_strings_and_parts_with_more_dimensions_are_padded() -> None:
    words = tf.ragged.constant([["a"], ["b", "c"]])
    vectors = tf.RaggedTensor.from_row_lengths(tf.ones([3, 2]), [1, 2])
    taken = bucketed((words, vectors), boundaries=[3]).take(tf.constant([1], tf.int64))
    assert taken[0].numpy().tolist() == [[b"b", b"c", b""]]
    assert taken[1].numpy().tolist() == [[[1, 1], [1, 1], [0, 0]]]


def test_long_examples_are_truncated_to_the_last_boundary() -> None:
    source = bucketed(ragged([1, 9]), boundaries=[2, 4], longer="truncate")
    assert source.take(tf.constant([1], tf.int64)).numpy().tolist() == [[2, 2, 2, 2]]


def test_a_length_below_that_of_a_part_is_an_error_and_does_not_cut_it() -> None:
    source = bucketed(
        ragged([1, 7]),
        boundaries=[2, 8],
        length_of=lambda batch: tf.ones([batch.nrows()], tf.int64),
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="`length_of` must not be below"):
        source.take(tf.constant([1], tf.int64))


def test_a_filtered_source_is_bucketed() -> None:
    some = filtered(ragged(LENGTHS), lambda batch: batch.row_lengths() % 2 == 0)
    found = batches(input_pipeline(bucketed(some, boundaries=BOUNDARIES), ONE, 8))
    seen = sorted(np.concatenate([batch[:, 0] - 1 for batch in found]))
    np.testing.assert_array_equal(seen, np.flatnonzero(LENGTHS % 2 == 0))


def test_block_shuffle_keeps_neighbours_of_a_bucket_together() -> None:
    source = bucketed(ragged([3] * 1000), boundaries=[4])
    positions = tf.range(1000, dtype=tf.int64)
    order = Order(3, BlockShuffle(block=10, window=1))
    found = source.indices(positions, tf.constant(0, tf.int64), order).numpy()
    for block in np.split(found, 100):
        assert len(set(block // 10)) <= 2


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (ragged([3, 9]), {"boundaries": []}, "`boundaries` must be ascending lengths"),
        (ragged([3, 9]), {"boundaries": [9, 9]}, "`boundaries` must be ascending lengths"),
        (ragged([3, 9]), {"boundaries": [0, 9]}, "`boundaries` must be a positive integer"),
        (ragged([3, 9]), {"boundaries": [4, 8]}, "must end at 9 or above, .* of example 1"),
        (ragged([3, 9]), {"boundaries": [9], "longer": "split"}, "`longer` must be one of"),
        (np.zeros([3, 2]), {"boundaries": [9]}, "one unknown dimension"),
        (tf.ragged.constant([[[1], [2, 3]]]), {"boundaries": [9]}, "one unknown dimension"),
        (
            mixture([(ragged([3]), 1), (ragged([4]), 1)]),
            {"boundaries": [9]},
            "Bucket the source, or mix packed sources",
        ),
        (
            ragged([3, 9]),
            {"boundaries": [9], "length_of": lambda batch: tf.ones([1])},
            "integer tensor of shape .n.. Received: float32",
        ),
    ],
)
def test_what_cannot_be_bucketed_is_refused(
    source: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bucketed(source, **arguments)


def test_bucketed_sources_are_not_mixed_or_filtered() -> None:
    source = bucketed(ragged([3, 9]), boundaries=[9])
    with pytest.raises(ValueError, match="`sources` must not be bucketed"):
        mixture([(source, 1), (source, 1)])
    with pytest.raises(ValueError, match="Filter the source before it is bucketed"):
        filtered(source, lambda batch: batch[:, 0] > 0)


def test_buckets_without_a_full_batch_are_refused_where_the_remainder_is_dropped() -> None:
    source = bucketed(ragged(LENGTHS), boundaries=BOUNDARIES)
    with pytest.raises(ValueError, match="the examples of the largest bucket"):
        input_pipeline(source, ONE, 90, drop_remainder=True)
