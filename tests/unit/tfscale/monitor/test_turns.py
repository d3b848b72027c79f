"""Turns of loops whose bounds are known, and of loops whose are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from tfscale.monitor.operation_flops import flops_of
from tfscale.monitor.turns import turns_of


def loop_of(make: Callable[[Any], Any]) -> Any:
    graph = tf.function(make, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int32))
    return next(op for op in graph.graph.get_operations() if op.type.endswith("While"))


def counting(first: int, limit: Any, step: Any, **arguments: Any) -> Callable[[Any], Any]:
    return lambda given: tf.while_loop(
        lambda i: i < (given if limit is None else limit),
        lambda i: (i + (given if step is None else step),),
        (tf.constant(first),),
        **arguments,
    )


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(counting(0, 7, 1), 7, id="from 0"),
        pytest.param(counting(2, 7, 1), 5, id="from 2"),
        pytest.param(counting(0, 7, 3), 3, id="by 3"),
        pytest.param(counting(9, 7, 1), 0, id="not at all"),
        pytest.param(counting(0, 7, 1, maximum_iterations=4), 4, id="at most 4"),
        pytest.param(counting(0, None, 1), None, id="limit is data"),
        pytest.param(counting(0, 7, None), None, id="step is data"),
        pytest.param(counting(0, None, 1, maximum_iterations=4), None, id="at most 4, or fewer"),
        pytest.param(
            lambda given: tf.while_loop(
                lambda i, limit: i < limit, lambda i, limit: (i + 1, limit - 1), (0, 8)
            ),
            None,
            id="limit moves",
        ),
    ],
)
def test_turns_are_known_only_if_they_do_not_depend_on_data(
    make: Callable[[Any], Any], expected: int | None
) -> None:
    assert turns_of(loop_of(make)) == expected


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        pytest.param("ij,jk->ik", ([2, 3], [3, 5]), 2 * 2 * 3 * 5, id="matrices"),
        pytest.param("...ij,jk->...ik", ([7, 2, 3], [3, 5]), 7 * 2 * 2 * 3 * 5, id="batches"),
        pytest.param(
            "...ij,...jk->...ik", ([1, 4, 2, 3], [7, 1, 3, 5]), 28 * 2 * 2 * 3 * 5, id="broadcast"
        ),
        pytest.param("ij,k->k", ([2, 3], [5]), 2 * 5, id="one is summed up before"),
        pytest.param("ij->j", ([2, 3],), 0, id="a sum is no product"),
        pytest.param("ij,jk->ik", ([None, 3], [3, 5]), None, id="unknown rows"),
    ],
)
def test_einsum_counts_the_sizes_of_its_axes(
    equation: str, shapes: tuple[Any, ...], expected: int | None
) -> None:
    graph = tf.Graph()
    with graph.as_default():
        given = [tf.compat.v1.placeholder(tf.float32, shape) for shape in shapes]
        found = tf.raw_ops.Einsum(inputs=given, equation=equation)
    assert flops_of(found.op) == expected
