"""Reading in a graph: what a reader returns, and what `decode` makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data.sources.reading import ReadSource

ROWS = tf.constant([3, 0, 3], tf.int64)


class Words:
    """Example i has i numbers of value i, the text of i, and a pair (i, -i)."""

    num_examples = 5
    fingerprint = "words"

    def __init__(self) -> None:
        self.element_spec = {
            "numbers": tf.TensorSpec([None], tf.float32),
            "both": (tf.TensorSpec([], tf.int64), tf.TensorSpec([1], tf.int32)),
            "text": tf.TensorSpec([], tf.string),
        }

    def read(self, indices: np.ndarray) -> Any:
        """Returns the examples at `indices`."""
        return {
            "text": np.array([str(i).encode() for i in indices], object),
            "both": (indices, -indices[:, np.newaxis]),
            "numbers": [np.full(i, i) for i in indices],
        }


def test_parts_of_a_nested_example_arrive_at_their_place() -> None:
    batch = tf.function(ReadSource(Words()).take)(ROWS)
    assert batch["text"].numpy().tolist() == [b"3", b"0", b"3"]
    assert batch["both"][0].numpy().tolist() == [3, 0, 3]
    assert batch["both"][1].numpy().tolist() == [[-3], [0], [-3]]
    assert batch["numbers"].to_list() == [[3, 3, 3], [], [3, 3, 3]]


def test_decode_may_branch_on_a_tensor_as_functions_of_a_dataset_may() -> None:
    def decode(example: Any) -> tf.Tensor:
        # A tensor in a Python condition needs AutoGraph.
        if tf.shape(example["numbers"])[0] > 0:
            total = tf.reduce_sum(example["numbers"])
        else:
            total = tf.constant(-1.0)
        return total

    indices = tf.data.Dataset.from_tensors(ROWS)
    batch = next(iter(indices.map(ReadSource(Words(), decode).take)))
    assert batch.numpy().tolist() == [9, -1, 9]
    assert batch.shape == [3]
