from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.microbatches import Microbatches, PerUpdate
from strategies.tpu.cpu_stand_in import TpuStandIn
from tfscale.data import input_pipeline
from tfscale.schedules import linear_decay

ONE = tf.distribute.OneDeviceStrategy("CPU:0")


def numbers(count: int, size: int, strategy: Any = ONE, **arguments: Any) -> Any:
    """Examples 0, 1, 2, ... in order, as pairs of the number and its negative."""
    values = np.arange(count)
    return input_pipeline(
        (values, -values), strategy, global_batch_size=size, shuffle=False, **arguments
    )


def first(batches: Microbatches, count: int) -> list[list[list[float]]]:
    """The first elements of worker 0's stream, as lists."""
    return [[part.numpy().tolist() for part in element] for element in batches.local(0).take(count)]


def test_a_batch_comes_in_parts_in_order_epoch_after_epoch() -> None:
    batches = Microbatches(numbers(8, 4), 2)
    assert (batches.steps_per_epoch, batches.global_batch_size) == (4, 2)
    expected = [[0, 1], [2, 3], [4, 5], [6, 7], [0, 1], [2, 3]]
    assert [values for values, _ in first(batches, 6)] == expected


def test_each_part_contains_rows_of_all_replicas_in_order() -> None:
    batches = Microbatches(numbers(24, 12, TpuStandIn(num_replicas=3)), 2)
    # Replica 0 has rows 0-3 of 12, replica 1 has 4-7, replica 2 has 8-11.
    expected = [[0, 1], [4, 5], [8, 9], [2, 3], [6, 7], [10, 11], [12, 13], [16, 17], [20, 21]]
    assert [values for values, _ in first(batches, 9)] == expected


def test_weights_of_a_smaller_last_batch_make_the_mean_of_parts_that_of_the_batch() -> None:
    batches = Microbatches(numbers(11, 4), 2)
    everything = first(batches, 12)
    assert [values for values, *_ in everything[4:7]] == [[8], [9, 10], [0, 1]]
    # 3 rows in parts of 1 and 2: 2 * 1 / 3 and 2 * 2 / 3.
    assert [weights for *_, weights in everything[:4]] == [[1, 1]] * 4
    assert everything[4][2] == pytest.approx([2 / 3])
    assert everything[5][2] == pytest.approx([4 / 3, 4 / 3])
    assert everything[10][2] == pytest.approx([2 / 3])  # again an epoch later


def test_parts_of_one_size_need_no_weights() -> None:
    assert {len(element) for element in first(Microbatches(numbers(10, 4), 2), 12)} == {2}
    dropped = Microbatches(numbers(11, 4, drop_remainder=True), 2)
    assert {len(element) for element in first(dropped, 12)} == {2}


def test_a_stream_that_starts_in_a_later_epoch_weights_the_same_batch() -> None:
    batches = Microbatches(numbers(11, 4), 2)
    assert first(batches.at(1), 6) == first(batches, 12)[6:]


@pytest.mark.parametrize(
    ("size", "count", "message"),
    [
        (6, 4, r"multiple of the 4 parts: 4 microbatches on 1 replicas\. .*=6\. Use 8\."),
        (4, 1, r"`count` must be at least 2\. Received: count=1"),
        (8, 4, r"at least 4 examples .*, which leaves 3 of 11\. Use another size"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(size: int, count: int, message: str) -> None:
    pipeline = numbers(11, size)
    with pytest.raises(ValueError, match=message):
        Microbatches(pipeline, count)


def test_the_rate_changes_with_updates_and_not_with_microbatches() -> None:
    rate = PerUpdate(linear_decay(0.8, 4), 3)
    expected = [0.8] * 3 + [0.6] * 3 + [0.4] * 3 + [0.2] * 3 + [0.0]
    assert [float(rate(step)) for step in range(13)] == pytest.approx(expected, abs=1e-7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    assert [float(again(step)) for step in range(13)] == [float(rate(step)) for step in range(13)]
