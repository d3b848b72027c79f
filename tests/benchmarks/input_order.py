"""How well orders mix: the figures of docs/concepts/input_order.md.

python -m tests.benchmarks.input_order

For each order, over epochs of 10^6 examples in classes that follow each other in the source:

* the variance of the number of examples of a class in a batch, relative to that of a random draw
  (hypergeometric): 1 is a perfect mixture, more is lumps, less is too even;
* the median distance in the epoch of two examples that are neighbours in the source, relative to
  that of random places (0.293 of the epoch), and the share of them in the same batch;
* the number of separate pieces of the source that a batch reads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfscale.data import BlockShuffle
from tfscale.data.order import Order

EXAMPLES, BATCH, EPOCHS = 1_000_000, 250, 5
# The median of the distance of two uniform places: 1 - sqrt(1 / 2).
RANDOM_DISTANCE = (1 - np.sqrt(0.5)) * EXAMPLES

OrderOf = Callable[[int], np.ndarray]


def order_of(blocks: BlockShuffle | None) -> OrderOf:
    positions = tf.range(EXAMPLES, dtype=tf.int64)
    order = Order(0, blocks)

    def indices(epoch: int) -> np.ndarray:
        found: np.ndarray = order.indices(positions, tf.constant(epoch, tf.int64), EXAMPLES).numpy()
        return found

    return indices


def buffer_order(size: int) -> OrderOf:
    """The order of `tf.data.Dataset.shuffle(size)`."""

    def indices(epoch: int) -> np.ndarray:
        dataset = tf.data.Dataset.range(EXAMPLES).shuffle(size, seed=epoch).batch(EXAMPLES)
        found: np.ndarray = next(dataset.as_numpy_iterator())
        return found

    return indices


def class_variance(order: np.ndarray, classes: int) -> float:
    """Variance of a class's examples in a batch, relative to a random draw."""
    labels = (order // (EXAMPLES // classes)).reshape(-1, BATCH)
    keys = labels + classes * np.arange(len(labels))[:, np.newaxis]
    counts = np.bincount(keys.reshape(-1), minlength=classes * len(labels))
    share = 1 / classes
    expected = BATCH * share * (1 - share) * (EXAMPLES - BATCH) / (EXAMPLES - 1)
    return float(np.mean((counts - BATCH * share) ** 2) / expected)


def measures(indices: OrderOf) -> list[float]:
    rows = []
    for epoch in range(EPOCHS):
        order = indices(epoch)
        place = np.empty_like(order)
        place[order] = np.arange(EXAMPLES)
        batches = np.sort(order.reshape(-1, BATCH), axis=1)
        rows.append(
            [
                class_variance(order, 10),
                class_variance(order, 1000),
                np.median(np.abs(np.diff(place))) / RANDOM_DISTANCE,
                np.mean(np.diff(place // BATCH) == 0) * 100,
                # Pieces with gaps of less than 64 examples are one read.
                1 + np.mean(np.sum(np.diff(batches, axis=1) > 64, axis=1)),
            ]
        )
    mean: list[float] = np.mean(rows, axis=0).tolist()
    return mean


def main() -> None:
    """Prints the table of the page."""
    orders: dict[str, OrderOf] = {
        "permutation": order_of(None),
        **{
            f"`BlockShuffle({block}, {window})`": order_of(BlockShuffle(block, window))
            for block, window in ((64, 256), (256, 64), (1024, 16), (1024, 64), (4096, 16))
        },
        "buffer of 16,384 (`tf.data`)": buffer_order(16_384),
    }
    print("| order | 10 classes | 1,000 classes | distance | same batch, % | pieces |")
    print("|---|---|---|---|---|---|")
    for name, indices in orders.items():
        ten, thousand, distance, same, pieces = measures(indices)
        print(
            f"| {name} | {ten:.3g} | {thousand:.3g} | {distance:.3g} | {same:.2g} | {pieces:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
