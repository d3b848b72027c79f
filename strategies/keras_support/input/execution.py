"""The batches of one execution, which lie with their replicas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.global_batches import WholeBatch
from strategies.keras_support.input.replica_stream import next_batch, shares_of_whole, whole_batch
from strategies.progress import phase


@dataclass(frozen=True)
class DistributedBatch:
    """A batch of a stream, unlike one that a user hands over: its shares, or a `WholeBatch`."""

    shares: Any


class Steps:
    """A stream of distributed batches and how many of them this execution takes.

    Attributes:
        strategy: The strategy whose replicas are fed.
        stream: See `share_stream`.
        count: Steps of this execution, or None for as many as there are.
        is_edge: Whether it begins or ends an epoch.
        is_end: Whether it ends one, so that the last batch may be smaller than the others.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        stream: Iterator[Any],
        count: int | None,
        is_edge: bool,
        is_end: bool,
    ) -> None:
        self.strategy = strategy
        self.stream = stream
        self.count = count
        self.is_edge = is_edge
        self.is_end = is_end
        self._left = count

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> DistributedBatch:
        if self._left == 0:
            raise StopIteration
        if self._left is not None:
            self._left -= 1
        with phase("input"):
            return DistributedBatch(next_batch(self.strategy, self.stream))


def handed_over(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Returns what a function of steps takes for a batch: of a stream, or of the user's own."""
    return batch.shares if isinstance(batch, DistributedBatch) else whole_batch(strategy, batch)


def shares_of(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Returns each replica's share of a batch that was handed over; in graphs or eagerly."""
    return shares_of_whole(strategy, batch) if isinstance(batch, WholeBatch) else batch
