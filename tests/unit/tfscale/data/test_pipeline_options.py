"""What the arguments `remainder`, `shuffle` and `keep` of `input_pipeline` do to a pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from strategies.keras_support.input.pipeline_adapter import GlobalBatchesAdapter
from tfscale.data import BlockShuffle, input_pipeline

# TensorFlow's own strategy: for what does not depend on the replicas, in this process.
ONE = tf.distribute.OneDeviceStrategy("CPU:0")


def test_padding_has_static_rows_and_no_weight() -> None:
    pipeline = input_pipeline(
        (np.arange(10.0), np.zeros(10)), ONE, 4, shuffle=False, remainder="pad"
    )
    batches = list(pipeline.replica_batches(0).take(3))
    spec = pipeline.replica_batches(0).element_spec.data
    assert [part.shape[0] for part in tf.nest.flatten(spec)] == [4, 4, 4]
    last = batches[-1]
    assert [part.shape[0] for part in last.data] == [4, 4, 4]
    np.testing.assert_array_equal(last.data[2], [1, 1, 0, 0])
    assert (int(last.examples), int(last.all_examples)) == (2, 2)
    np.testing.assert_array_equal(batches[0].data[2], [1, 1, 1, 1])


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool"])
def test_padding_keeps_the_sample_weights_of_the_source(dtype: str) -> None:
    x = np.arange(5.0)
    weights = (x + 3).astype(dtype)
    pipeline = input_pipeline((x, x, weights), ONE, 4, shuffle=False, remainder="pad")
    *_, last = pipeline.replica_batches(0).take(2)
    np.testing.assert_array_equal(last.data[2], np.array([7, 0, 0, 0]).astype(dtype))


def test_padding_needs_pairs_and_random_access() -> None:
    with pytest.raises(ValueError, match="Received: remainder='pad' and batches of TensorSpec"):
        _ = input_pipeline(np.arange(10), ONE, 4, remainder="pad").element_spec
    stream = tf.data.Dataset.range(10)
    with pytest.raises(ValueError, match=r"no random access\. Received: remainder='pad'"):
        input_pipeline(stream, ONE, 4, remainder="pad")
    with pytest.raises(ValueError, match=r"no random access\. Received: shuffle=BlockShuffle\("):
        input_pipeline(stream, ONE, 4, shuffle=BlockShuffle(4, 2))


def test_only_kept_examples_are_in_an_epoch() -> None:
    pipeline = input_pipeline(np.arange(20), ONE, 4, keep=lambda batch: batch % 5 > 1)
    batches = list(pipeline.local(0).take(pipeline.steps_per_epoch).as_numpy_iterator())
    found = np.sort(np.concatenate(batches))
    np.testing.assert_array_equal(found, [n for n in range(20) if n % 5 > 1])
    with pytest.raises(ValueError, match=r"Received: a tf\.data\.Dataset\. .*Dataset\.filter"):
        input_pipeline(tf.data.Dataset.range(9), ONE, 4, keep=lambda batch: batch > 3)


def test_a_checkpoints_description_names_what_orders_the_batches() -> None:
    x = np.arange(10)

    def order(*arguments: Any, **options: Any) -> str:
        return GlobalBatchesAdapter(input_pipeline(*arguments, **options), None).order()

    texts = [
        order(x, ONE, 4),
        order(x, ONE, 5),
        order(x, ONE, 4, seed=1),
        order(x, ONE, 4, shuffle=False),
        order(x, ONE, 4, drop_remainder=True),
        order(x, ONE, 4, shuffle=BlockShuffle(4, 2)),
    ]
    assert len(set(texts)) == len(texts)
    assert texts[0] == order(x, ONE, 4, remainder="keep")
    assert texts[4] == order(x, ONE, 4, remainder="drop")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(np.arange(3), id="an array"),
        pytest.param("a text", id="a text"),
        pytest.param(tf.ragged.constant([[1], [2, 3]]), id="ragged"),
        pytest.param(tf.sparse.from_dense([[1], [2]]), id="sparse"),
    ],
)
def test_a_batch_with_another_number_of_rows_is_refused_whatever_its_type(wrong: Any) -> None:
    def batches() -> list[Any]:
        pipeline = input_pipeline(np.zeros(10), ONE, 5, preprocess=lambda batch: (batch, wrong))
        return list(pipeline.replica_batches(0).take(1))

    errors = ValueError, tf.errors.InvalidArgumentError
    with pytest.raises(errors, match="`preprocess` must return as many rows"):
        batches()


def test_arrays_ragged_and_sparse_parts_with_as_many_rows_are_kept() -> None:
    parts = np.arange(5), tf.ragged.constant([[1], [2, 3], [], [4], []]), tf.sparse.eye(5, 2)
    pipeline = input_pipeline(np.zeros(10), ONE, 5, preprocess=lambda _: parts)
    array, ragged, sparse = tf.nest.flatten(next(iter(pipeline.replica_batches(0))))[:3]
    np.testing.assert_array_equal(array, np.arange(5))
    assert ragged.to_list() == [[1], [2, 3], [], [4], []]
    np.testing.assert_array_equal(tf.sparse.to_dense(sparse), np.eye(5, 2))
