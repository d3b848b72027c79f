"""A replica's view of its part: values by NumPy, and no operation that makes later reads copy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from strategies.keras_support.sharding.cuts import by_rows
from strategies.keras_support.sharding.part_view import PartView


@pytest.mark.parametrize("shape", [(7, 3), (2, 5)], ids=["first axis", "second axis"])
@pytest.mark.parametrize("replica", [0, 1, 2])
def test_an_assigned_part_changes_its_rows_only(shape: tuple[int, int], replica: int) -> None:
    start = np.arange(float(np.prod(shape))).reshape(shape)
    variable, cut = tf.Variable(start), by_rows(shape, 3)
    view = PartView(variable, cut, replica, "v", tf.distribute.get_strategy())
    view.assign_add(tf.ones(cut.part_shape(replica), tf.float64))
    expected = start.copy()
    expected[cut.slices(replica)] += 1.0
    np.testing.assert_array_equal(variable.numpy(), expected)


def test_a_part_is_assigned_with_the_whole() -> None:
    # An assignment of rows turns on TensorFlow's copy_on_read_mode of the variable for good: each
    # read in each step would be a copy of the weights.
    variable, cut = tf.Variable(np.zeros((4, 2))), by_rows((4, 2), 2)
    view = PartView(variable, cut, 0, "v", tf.distribute.get_strategy())

    @tf.function(autograph=False)
    def step() -> None:
        view.assign(tf.ones([2, 2], tf.float64))

    kinds = {op.type for op in step.get_concrete_function().graph.get_operations()}
    assert "AssignVariableOp" in kinds
    assert not any("StridedSliceAssign" in kind for kind in kinds)


@pytest.mark.parametrize(
    "read", [np.asarray, tf.convert_to_tensor, PartView.numpy], ids=["array", "tensor", "numpy"]
)
def test_another_thread_is_not_given_a_part_for_the_whole(read: Any) -> None:
    variable, cut = tf.Variable(np.zeros((4, 2)), name="kernel"), by_rows((4, 2), 2)
    view = PartView(variable, cut, 0, "v", tf.distribute.get_strategy())
    assert np.shape(read(view)) == (2, 2)
    with (
        ThreadPoolExecutor(thread_name_prefix="monitor") as threads,
        pytest.raises(RuntimeError, match="Received: a read of 'kernel:0' in thread 'monitor_0'"),
    ):
        threads.submit(read, view).result(timeout=60)
