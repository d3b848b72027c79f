from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data.order import BlockShuffle, Order, example_seeds


def orders(num_examples: int, epochs: int, seed: int | None = 0) -> np.ndarray:
    """The orders of the first epochs, [epochs, num_examples]."""
    positions = tf.range(num_examples, dtype=tf.int64)

    @tf.function
    def each() -> tf.Tensor:
        return tf.map_fn(
            lambda epoch: Order(seed).indices(positions, epoch, num_examples),
            tf.range(epochs, dtype=tf.int64),
        )

    order: np.ndarray = each().numpy()
    return order


@pytest.mark.parametrize(
    "num_examples",
    [1, 2, 3, 7, 8, 1797, 4096, 4097],  # Powers of two are where a cipher's domain is cut.
)
def test_every_epoch_holds_each_example_once(num_examples: int) -> None:
    for order in orders(num_examples, epochs=5):
        np.testing.assert_array_equal(np.sort(order), np.arange(num_examples))


@pytest.mark.parametrize(
    ("num_examples", "blocks"),
    [
        (4**8 + 1, None),
        (4**8 + 2, BlockShuffle(block=1, window=1)),  # the number of full blocks
        (4**8 + 1, BlockShuffle(block=3, window=4**8)),  # the examples of a window
        (2 * 4**8 + 3, BlockShuffle(block=1, window=4**8 + 2)),  # those of the last window
    ],
)
def test_an_epoch_has_every_example_once_where_the_cipher_of_tensorflow_lacks_a_bit(
    num_examples: int, blocks: BlockShuffle | None
) -> None:
    positions = tf.range(num_examples, dtype=tf.int64)
    order = Order(0, blocks).indices(positions, tf.constant(1, tf.int64), num_examples)
    np.testing.assert_array_equal(np.sort(order), np.arange(num_examples))


def test_an_example_is_found_without_looking_at_the_others() -> None:
    whole = orders(1797, epochs=3)[2]
    some = tf.constant([5, 1796, 0, 5], tf.int64)
    alone = Order(0).indices(some, tf.constant(2, tf.int64), 1797)
    np.testing.assert_array_equal(alone, whole[some])


def test_the_order_is_the_same_in_every_release() -> None:
    # Recorded with TensorFlow 2.21.0: a run saved under one release continues under the next.
    assert orders(12, epochs=2, seed=7).tolist() == [
        [5, 6, 3, 9, 7, 11, 0, 10, 4, 1, 2, 8],
        [1, 2, 4, 10, 9, 5, 6, 7, 11, 0, 3, 8],
    ]


def test_without_a_seed_the_order_is_the_sources_own() -> None:
    np.testing.assert_array_equal(orders(9, epochs=2, seed=None), [np.arange(9)] * 2)


def test_epochs_of_a_small_source_do_not_repeat_each_other() -> None:
    # 100! orders: two alike among 1,000 would be a wonder. 256 different ones is what the key
    # (seed, epoch) gives where only its low byte counts.
    assert len({order.tobytes() for order in orders(100, epochs=1000)}) == 1000


def test_the_next_epoch_and_the_next_seed_are_unrelated_orders() -> None:
    epochs = orders(60_000, epochs=6)
    others = [*epochs[1:], orders(60_000, epochs=1, seed=1)[0]]
    for order, other in zip(epochs, others, strict=True):
        # The correlation of two random orders has standard deviation 1/sqrt(n) = 0.0041.
        assert abs(np.corrcoef(order, other)[0, 1]) < 0.02
        assert (order == other).sum() < 12  # Poisson(1): 12 or more has chance 1e-9.


def test_neighbours_are_spread_and_batches_vary_as_if_drawn_by_chance() -> None:
    order = orders(60_000, epochs=8)
    serial = [np.corrcoef(row[1:], row[:-1])[0, 1] for row in order]
    assert abs(np.mean(serial)) < 5 / np.sqrt(60_000 * 8)
    # Sorted classes of 6,000, batches of 100: the count of a class is hypergeometric.
    classes = (order // 6000).reshape(8 * 600, 100)
    counts = np.stack([(classes == label).sum(axis=1) for label in range(10)])
    expected = 100 * 0.1 * 0.9 * (60_000 - 100) / (60_000 - 1)
    assert counts.var() / expected == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("num_examples", [8, 17, 100])
def test_each_place_gets_each_example_equally_often(num_examples: int) -> None:
    epochs = 1500
    order = orders(num_examples, epochs)
    counts = np.stack([np.bincount(column, minlength=num_examples) for column in order.T])
    chi_square = ((counts - epochs / num_examples) ** 2 / (epochs / num_examples)).sum()
    freedom = (num_examples - 1) ** 2
    assert chi_square == pytest.approx(freedom, abs=5 * np.sqrt(2 * freedom))


def test_each_example_of_each_epoch_has_a_seed_of_its_own() -> None:
    positions = tf.range(500, dtype=tf.int64)
    seeds = [
        example_seeds(positions, tf.constant(epoch, tf.int64), seed).numpy()
        for seed in (0, 1, 2**31 - 1)
        for epoch in range(20)
    ]
    assert len(np.unique(np.concatenate(seeds), axis=0)) == 3 * 20 * 500


def test_an_examples_seed_does_not_depend_on_its_companions() -> None:
    positions = tf.range(10, dtype=tf.int64)
    together = example_seeds(positions, tf.constant(3, tf.int64), 4)
    with_epochs = example_seeds(positions[4:7], tf.fill([3], tf.constant(3, tf.int64)), 4)
    np.testing.assert_array_equal(together[4:7], with_epochs)
