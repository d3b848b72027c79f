"""Gradients reduced over replicas, against the same sum written in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.keras_support.gradients.gradient_reduce import dense_gradients, reduce_gradients

pytestmark = pytest.mark.own_process


class Rows(NamedTuple):
    """The parts of `tf.IndexedSlices`: some rows of a gradient, possibly a row twice."""

    values: np.ndarray
    indices: Sequence[int]
    shape: tuple[int, ...]

    def dense(self) -> np.ndarray:
        total = np.zeros(self.shape, np.float64)
        np.add.at(total, list(self.indices), self.values.astype(np.float64))
        return total


Value: TypeAlias = np.ndarray | Rows | None

TOLERANCES = {
    np.dtype(np.float64): 1e-14,
    np.dtype(np.float32): 1e-6,
    np.dtype(np.float16): 1e-3,
    np.dtype(ml_dtypes.bfloat16): 8e-3,
}


@pytest.fixture(scope="module", params=[2, 3])
def strategy(request: pytest.FixtureRequest) -> tf.distribute.Strategy:
    strategies.mirrored_strategy(3)  # TensorFlow must have all three before it starts
    return strategies.mirrored_strategy(request.param)


def reduced(
    strategy: tf.distribute.Strategy,
    gradients: Sequence[Sequence[Value]],
    examples: Sequence[int] | None,
) -> list[list[Any]]:
    """Returns each replica's reduced gradients, from each replica's gradients and examples."""

    def of_replica(context: Any) -> Any:
        replica = context.replica_id_in_sync_group
        count = tf.constant(0 if examples is None else examples[replica], tf.int32)
        tensors = [
            (tf.constant(g.values), tf.constant(g.indices, tf.int64))
            if isinstance(g, Rows)
            else None
            if g is None
            else tf.constant(g)
            for g in gradients[replica]
        ]
        return tensors, count

    def on_replica(tensors: Any, count: tf.Tensor) -> Any:
        restored = [
            tf.IndexedSlices(*tensor, tf.constant(first.shape, tf.int64))
            if isinstance(first, Rows)
            else tensor
            for tensor, first in zip(tensors, gradients[0], strict=True)
        ]
        return reduce_gradients(restored, None if examples is None else count)

    arguments = strategy.experimental_distribute_values_from_function(of_replica)
    results = tf.function(lambda: strategy.run(on_replica, args=arguments))()
    replicas = strategy.num_replicas_in_sync
    by_gradient = [
        [None] * replicas if result is None else strategy.experimental_local_results(result)
        for result in results
    ]
    return [list(of_one) for of_one in zip(*by_gradient, strict=True)]


def expected(gradients: Sequence[Value], examples: Sequence[int] | None) -> Any:
    """Returns the mean of the replicas' gradients over all examples, or their plain sum."""
    dense = [g.dense() if isinstance(g, Rows) else np.asarray(g, np.float64) for g in gradients]
    if examples is None:
        return np.sum(dense, axis=0)
    parts = [n * g for n, g in zip(examples, dense, strict=True) if n]
    return np.sum(parts, axis=0) / sum(examples)


def assert_reduced(
    strategy: tf.distribute.Strategy,
    gradients: Sequence[Sequence[Value]],
    examples: Sequence[int] | None,
) -> None:
    for results in reduced(strategy, gradients, examples):
        for i, (result, own) in enumerate(zip(results, gradients[0], strict=True)):
            if own is None:
                assert result is None
                continue
            wanted = expected([of_replica[i] for of_replica in gradients], examples)
            dtype = own.values.dtype if isinstance(own, Rows) else own.dtype
            assert result.dtype == dtype
            assert isinstance(result, tf.IndexedSlices) is isinstance(own, Rows)
            found = tf.convert_to_tensor(result).numpy().astype(np.float64)
            assert found.shape == wanted.shape
            np.testing.assert_allclose(
                found, wanted, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype]
            )


def drawn(strategy: tf.distribute.Strategy, *shapes_and_dtypes: Any) -> list[list[Value]]:
    """Normal gradients for every replica, the same shapes on all."""
    draw = np.random.default_rng(0)
    return [
        [draw.normal(size=shape).astype(dtype) for shape, dtype in shapes_and_dtypes]
        for _ in range(strategy.num_replicas_in_sync)
    ]


def counts(strategy: tf.distribute.Strategy) -> list[int]:
    return [3, 5, 1][: strategy.num_replicas_in_sync]


def drawn_rows(strategy: tf.distribute.Strategy, dtype: Any = np.float64) -> list[Rows]:
    """Rows of a [6, 2] gradient, a different number on each replica, some of them twice."""
    draw = np.random.default_rng(1)
    indices = [[4, 0, 4], [0], [5, 5]][: strategy.num_replicas_in_sync]
    return [Rows(draw.normal(size=[len(i), 2]).astype(dtype), i, (6, 2)) for i in indices]


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_gradients_of_all_shapes_are_the_mean_over_all_examples(
    strategy: tf.distribute.Strategy, dtype: Any
) -> None:
    shapes = [((4, 3), dtype), ((), dtype), ((2, 1, 5), dtype), ((7,), dtype), ((0, 3), dtype)]
    assert_reduced(strategy, drawn(strategy, *shapes), counts(strategy))


@pytest.mark.parametrize("is_weighted", [True, False])
def test_gradients_of_several_dtypes_come_back_in_their_own_and_in_order(
    strategy: tf.distribute.Strategy, is_weighted: bool
) -> None:
    kinds = [
        ((3,), np.float32),
        ((2, 2), np.float64),
        ((3,), ml_dtypes.bfloat16),
        ((4,), np.float16),
        ((2,), np.float32),
        ((), np.float64),
    ]
    assert_reduced(strategy, drawn(strategy, *kinds), counts(strategy) if is_weighted else None)


def test_gradients_of_the_three_dtypes_of_mixed_precision(strategy: tf.distribute.Strategy) -> None:
    kinds = [((3,), np.float32), ((2, 2), ml_dtypes.bfloat16), ((3,), np.float16), ((), np.float32)]
    assert_reduced(strategy, drawn(strategy, *kinds), counts(strategy))


def test_variables_without_a_gradient_keep_their_positions(
    strategy: tf.distribute.Strategy,
) -> None:
    gradients = [
        [None, first, None, None, second, None]
        for first, second in drawn(strategy, ((3,), np.float64), ((2, 2), np.float64))
    ]
    assert_reduced(strategy, gradients, counts(strategy))


@pytest.mark.parametrize("is_weighted", [True, False])
def test_no_gradient_at_all_stays_none(strategy: tf.distribute.Strategy, is_weighted: bool) -> None:
    gradients = [[None, None]] * strategy.num_replicas_in_sync
    assert_reduced(strategy, gradients, counts(strategy) if is_weighted else None)


@pytest.mark.parametrize("is_weighted", [True, False])
def test_sparse_rows_between_dense_gradients(
    strategy: tf.distribute.Strategy, is_weighted: bool
) -> None:
    dense = drawn(strategy, ((3,), np.float64), ((2, 2), np.float64))
    rows = drawn_rows(strategy)
    gradients = [[a, r, None, b] for (a, b), r in zip(dense, rows, strict=True)]
    assert_reduced(strategy, gradients, counts(strategy) if is_weighted else None)


@pytest.mark.parametrize(
    ("dtype", "is_weighted"),
    [
        (np.float64, True),
        (np.float16, False),
        pytest.param(np.float64, False, marks=pytest.mark.thorough),
        pytest.param(np.float16, True, marks=pytest.mark.thorough),
    ],
)
def test_only_sparse_rows(strategy: tf.distribute.Strategy, dtype: Any, is_weighted: bool) -> None:
    gradients = [[rows] for rows in drawn_rows(strategy, dtype)]
    assert_reduced(strategy, gradients, counts(strategy) if is_weighted else None)


def test_gathered_rows_are_in_the_order_of_the_replicas(strategy: tf.distribute.Strategy) -> None:
    rows = drawn_rows(strategy)
    for (result,) in reduced(strategy, [[r] for r in rows], None):
        assert result.indices.numpy().tolist() == [i for r in rows for i in r.indices]
        np.testing.assert_array_equal(result.values, np.concatenate([r.values for r in rows]))


def test_without_examples_gradients_are_simply_summed(strategy: tf.distribute.Strategy) -> None:
    kinds = [((3, 2), np.float16), ((4,), np.float32), ((2,), ml_dtypes.bfloat16)]
    assert_reduced(strategy, drawn(strategy, *kinds), None)


@pytest.mark.parametrize("nothing", [np.nan, pytest.param(np.inf, marks=pytest.mark.thorough), 0.0])
def test_gradients_of_a_replica_without_examples_do_not_count(
    strategy: tf.distribute.Strategy, nothing: float
) -> None:
    gradients = drawn(strategy, ((3, 2), np.float32), ((2,), np.float16))
    gradients[0] = [np.full_like(g, nothing) for g in gradients[0]]
    gradients = [[*g, r] for g, r in zip(gradients, drawn_rows(strategy), strict=True)]
    first = gradients[0][-1]
    assert isinstance(first, Rows)
    gradients[0][-1] = first._replace(values=np.full_like(first.values, nothing))
    assert_reduced(strategy, gradients, [0, *counts(strategy)[1:]])


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("replica", [0, -1])
def test_a_gradient_that_is_not_finite_is_seen_by_every_replica(
    strategy: tf.distribute.Strategy, replica: int, bad: float
) -> None:
    gradients = drawn(strategy, ((3,), np.float16), ((2,), np.float16))
    poisoned = gradients[replica][0]
    assert isinstance(poisoned, np.ndarray)
    poisoned[1] = bad
    for first, second in reduced(strategy, gradients, counts(strategy)):
        np.testing.assert_array_equal(np.isfinite(first), [True, False, True])
        np.testing.assert_array_equal(first[1], np.float16(bad))
        assert np.isfinite(second).all()


def test_half_precision_does_not_overflow_on_the_way(strategy: tf.distribute.Strategy) -> None:
    largest = np.full([2], np.finfo(np.float16).max)
    assert largest.dtype == np.float16
    gradients = [[largest]] * strategy.num_replicas_in_sync
    for (result,) in reduced(strategy, gradients, counts(strategy)):
        np.testing.assert_array_equal(result, largest)


def test_all_replicas_receive_the_same_bits(strategy: tf.distribute.Strategy) -> None:
    gradients = drawn(strategy, ((50, 3), np.float32), ((7,), np.float16))
    first, *others = reduced(strategy, gradients, counts(strategy))
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()


def test_gradients_whose_shape_is_known_only_at_run_time(strategy: tf.distribute.Strategy) -> None:
    gradients: Any = drawn(strategy, ((3, 2), np.float64), ((4,), np.float64))
    arguments = strategy.experimental_distribute_values_from_function(
        lambda context: [tf.constant(g) for g in gradients[context.replica_id_in_sync_group]]
    )

    @tf.function
    def step(size: tf.Tensor) -> Any:
        def on_replica(first: tf.Tensor, second: tf.Tensor) -> Any:
            first = first[:size]
            assert first.shape.as_list() == [None, 2]
            return reduce_gradients([first, second], tf.constant(4))

        return strategy.run(on_replica, args=arguments)

    first, second = (strategy.experimental_local_results(part)[0] for part in step(tf.constant(3)))
    wanted = np.mean([g[0] for g in gradients], axis=0), np.mean([g[1] for g in gradients], axis=0)
    np.testing.assert_allclose(first, wanted[0], rtol=1e-13)
    np.testing.assert_allclose(second, wanted[1], rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_sparse_rows_made_dense_are_summed_by_index(
    strategy: tf.distribute.Strategy, dtype: Any
) -> None:
    (rows, *_) = drawn_rows(strategy, dtype)  # one index twice
    slices = tf.IndexedSlices(rows.values, rows.indices, rows.shape)
    kept = tf.ones([2])
    first, none, last = dense_gradients([slices, None, kept])
    assert first is not None
    assert (none, last is kept, first.dtype, tuple(first.shape)) == (None, True, dtype, rows.shape)
    tolerance = TOLERANCES[np.dtype(dtype)]
    np.testing.assert_allclose(first, rows.dense(), rtol=tolerance, atol=tolerance)


def test_many_rows_of_half_precision_are_summed_without_losing_the_last() -> None:
    slices = tf.IndexedSlices(tf.ones([4096, 1], tf.float16), tf.zeros([4096], tf.int32), [1, 1])
    (total,) = dense_gradients([slices])
    assert total is not None
    assert total.numpy().tolist() == [[4096.0]]  # a sum in float16 would end at 2048
