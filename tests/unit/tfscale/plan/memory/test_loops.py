"""Lists of loops: hand-counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from tfscale.plan.memory.loops import bytes_kept, bytes_of_list

SHARING = frozenset(("Identity", "While", "StatelessWhile"))
SIZE = 100 * 4
"""Bytes of a tensor that the loops carry."""


def loop_of(graph: Any) -> Any:
    (first, *_) = [op for op in graph.get_operations() if op.type in ("While", "StatelessWhile")]
    return first


def traced(turns: Any, body: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    """Returns the graph of a loop and its gradient."""

    @tf.function(autograph=False)
    def step(x: tf.Tensor, limit: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            number = limit if turns is None else turns
            _, y = tf.while_loop(lambda i, _: i < number, lambda i, y: (i + 1, body(y)), (0, x))
        return tape.gradient(y, x)

    specs = tf.TensorSpec([100]), tf.TensorSpec([], tf.int32)
    return step.get_concrete_function(*specs).graph


def test_each_turn_keeps_what_its_gradient_reads() -> None:
    # The gradient of tanh needs its result, that of the sine its argument: the tanh, which is kept.
    loop = loop_of(traced(7, lambda y: tf.sin(tf.tanh(y))))
    found = bytes_kept(loop, SHARING)
    assert found is not None
    assert list(found.values()) == [7 * SIZE]


def test_what_the_turn_before_made_is_kept_once() -> None:
    # The product's gradient needs both: the carried one is the product of the turn before.
    loop = loop_of(traced(5, lambda y: y * tf.tanh(y)))
    found = bytes_kept(loop, SHARING)
    assert found is not None
    assert sum(found.values()) == 5 * 2 * SIZE


def test_a_number_of_turns_that_depends_on_data_is_not_known() -> None:
    assert bytes_kept(loop_of(traced(None, tf.tanh)), SHARING) is None


def test_a_loop_without_a_gradient_keeps_nothing() -> None:
    @tf.function(autograph=False)
    def step(x: tf.Tensor) -> Any:
        return tf.while_loop(lambda i, _: i < 9, lambda i, y: (i + 1, tf.tanh(y)), (0, x))

    loop = loop_of(step.get_concrete_function(tf.TensorSpec([100])).graph)
    assert bytes_kept(loop, SHARING) == {}


def test_a_list_of_the_rows_of_a_tensor_has_copies_of_them() -> None:
    @tf.function(autograph=False)
    def step(x: tf.Tensor) -> Any:
        return tf.raw_ops.TensorListFromTensor(tensor=x, element_shape=tf.constant([100]))

    graph = step.get_concrete_function(tf.TensorSpec([3, 100])).graph
    assert bytes_of_list(graph.outputs[0]) == 3 * SIZE


@pytest.mark.parametrize(("count", "expected"), [(8, 8 * SIZE), (-1, 0)])
def test_a_reserved_list_has_the_bytes_of_its_elements(count: int, expected: int) -> None:
    @tf.function(autograph=False)
    def step() -> Any:
        return tf.raw_ops.TensorListReserve(
            element_shape=tf.constant([100]),
            num_elements=tf.constant(count),
            element_dtype=tf.float32,
        )

    assert bytes_of_list(step.get_concrete_function().graph.outputs[0]) == expected
