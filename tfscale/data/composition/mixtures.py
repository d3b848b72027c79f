"""A source that draws from others in fixed proportions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from strategies.extension import named_parts, number, whole_number
from tfscale.data.composition.requirements import batch_spec, random_access
from tfscale.data.order import Order
from tfscale.data.sources import RandomAccessSource

Until = Literal["first", "all"] | int

# The longest schedule. Weights whose schedule would be longer are rounded to 1/65,536.
LONGEST_PERIOD = 2**16


def mixture(
    sources: Mapping[Any, float] | Sequence[tuple[Any, float]], *, until: Until = "first"
) -> RandomAccessSource:
    """Draws from several sources in fixed proportions.

    The source of each position is fixed by arithmetic: at any point of an epoch, the examples drawn
    from a source differ from its proportion by at most half the number of sources. Each source has
    its own order. If it is drawn completely, its next pass has a new order.

    * A source that an epoch does not draw completely continues in the next epoch where it stopped,
      so that all its examples are seen. A pass may end within an epoch, which may then have an
      example of both passes.
    * A source that an epoch draws completely begins a new pass in every epoch.

    Args:
        sources: Pairs of a source and its weight, or a dict of them. A source is one of
            `tfscale.data`, or arrays (in pairs only, because they cannot be keys). Their examples
            must have the same structure, types and shapes. A weight is positive; proportions are
            exact if their common denominator is at most 65,536, else rounded to 1/65,536.
        until: Where an epoch ends: "first" before the first source would repeat an example, "all"
            when every source was drawn completely, or a number of examples.

    Returns:
        A source. `num_examples` is the length of an epoch.

    Raises:
        ValueError: If there are fewer than two sources, a weight is not positive, or examples
            differ in structure, type or shape.

    Example:
        >>> web, books = np.arange(100), np.arange(1000, 1040)
        >>> both = mixture([(web, 0.75), (books, 0.25)])
        >>> both.num_examples
        133
    """
    pairs = list(sources.items() if isinstance(sources, Mapping) else sources)
    if len(pairs) < 2 or not all(isinstance(p, (tuple, list)) and len(p) == 2 for p in pairs):
        raise ValueError(
            "`sources` must be at least two pairs of a source and its weight. Received: "
            f"{len(pairs)} items. Pass [(source, 0.7), (other, 0.3)], or a dict of sources."
        )
    parts = tuple(random_access(source) for source, _ in pairs)
    shares = _shares([weight for _, weight in pairs])
    if until not in ("first", "all"):
        until = whole_number("until", until, cure='Pass "first", "all" or a number of examples.')
    for part in parts:
        if type(part).division is not RandomAccessSource.division:
            raise ValueError(
                "`sources` must not be bucketed. Received: a bucketed source. Mix sources of equal "
                "shapes, for instance packed ones."
            )
    _require_equal_specs([batch_spec(part) for part in parts])
    return Mixture(parts, shares, until)


class Mixture(RandomAccessSource):
    """Examples of several sources. Its indices count through their concatenation."""

    def __init__(
        self, parts: tuple[RandomAccessSource, ...], shares: list[Fraction], until: Until
    ) -> None:
        self.parts = parts
        self._shares, self._until = shares, until
        self._schedule = _Schedule.of(shares)
        sizes = [part.num_examples for part in parts]
        if until == "first":
            self.num_examples = min(map(self._schedule.position, range(len(parts)), sizes))
        elif until == "all":
            last = [self._schedule.position(i, size - 1) for i, size in enumerate(sizes)]
            self.num_examples = max(last) + 1
        else:
            self.num_examples = int(until)
        listed = ", ".join(
            f"{share} of [{part.fingerprint}]" for share, part in zip(shares, parts, strict=True)
        )
        self.fingerprint = f"{self.num_examples} examples: {listed}"
        self._first = np.cumsum([0, *(part.num_indices for part in parts)])
        # Draws of an epoch, and whether they are a whole pass.
        draws = [self._schedule.draws_before(i, self.num_examples) for i in range(len(parts))]
        # By source: its draws of an epoch, its size, and the passes of an epoch that begins one.
        self._counts = np.array(
            [
                (drawn, size, -(-drawn // size) if drawn >= size else 0)
                for drawn, size in zip(draws, sizes, strict=True)
            ],
            np.int64,
        )

    def with_parts(self, parts: Iterable[RandomAccessSource]) -> Mixture:
        """Returns a mixture with the same weights of other sources."""
        return Mixture(tuple(parts), self._shares, self._until)

    @property
    def num_indices(self) -> int:
        """Examples of all sources."""
        return int(self._first[-1])

    def indices(self, positions: tf.Tensor, epochs: tf.Tensor, order: Order) -> tf.Tensor:
        """Returns which examples are at positions of epochs; see `RandomAccessSource`."""
        number, draws = self._schedule.draw(positions)
        drawn, size, passes = tf.unstack(tf.gather(tf.constant(self._counts), number), axis=1)
        run_on = draws + drawn * epochs
        of_pass = tf.where(passes > 0, epochs * passes + draws // size, run_on // size)
        position = tf.where(passes > 0, draws, run_on) % size
        result = tf.zeros_like(positions)
        for i, part in enumerate(self.parts):
            # Every part is asked for all positions: an order has no indices for no positions.
            is_drawn = tf.equal(number, i)
            found = part.indices(
                tf.where(is_drawn, position, 0), tf.where(is_drawn, of_pass, 0), order.of_part(i)
            )
            result = tf.where(is_drawn, found + int(self._first[i]), result)
        return result

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the examples at `indices`, int64 [n], as a structure of [n, ...] tensors."""
        taken, rows = [], []
        for part, first, end in zip(self.parts, self._first[:-1], self._first[1:], strict=True):
            is_here = tf.logical_and(indices >= first, indices < end)
            taken.append(part.take(tf.boolean_mask(indices, is_here) - first))
            rows.append(tf.reshape(tf.where(is_here), [-1]))
        # The inverse of the order by source.
        order = tf.math.invert_permutation(tf.concat(rows, axis=0))

        def joined(*parts: Any) -> Any:
            result = tf.gather(tf.concat(parts, axis=0), order)
            if isinstance(result, tf.Tensor):
                result.set_shape([indices.shape[0], *result.shape[1:]])
            return result

        return tf.nest.map_structure(joined, *taken)


@dataclass(frozen=True)
class _Schedule:
    """Which source each position draws from, repeated after a period.

    Attributes:
        source: int64 [period].
        rank: int64 [period], earlier draws of the same source within the period.
        counts: int64 [sources], draws of each source in a period.
    """

    source: np.ndarray
    rank: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, shares: Sequence[Fraction]) -> _Schedule:
        """Makes the schedule: the draws of each source are at the middles of equal intervals."""
        period = math.lcm(*(share.denominator for share in shares))
        counts = [int(share * period) for share in shares]
        due = np.concatenate([(2 * np.arange(count) + 1) / count for count in counts])
        source = np.repeat(np.arange(len(counts)), counts)
        rank = np.concatenate([np.arange(count) for count in counts])
        order = np.lexsort((source, due))
        return cls(source[order], rank[order], np.array(counts, np.int64))

    def draw(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the source at positions, int64 [n], and the earlier draws of it."""
        period = len(self.source)
        place, turn = positions % period, positions // period
        source = tf.gather(tf.constant(self.source), place)
        rank = tf.gather(tf.constant(self.rank), place)
        return source, turn * tf.gather(tf.constant(self.counts), source) + rank

    def position(self, source: int, draw: int) -> int:
        """Returns the position of the draw with this number, from 0, of a source."""
        turn, rank = divmod(draw, int(self.counts[source]))
        places = np.flatnonzero(self.source == source)
        return turn * len(self.source) + int(places[rank])

    def draws_before(self, source: int, position: int) -> int:
        """Returns the draws of a source before a position."""
        turn, place = divmod(position, len(self.source))
        return turn * int(self.counts[source]) + int((self.source[:place] == source).sum())


def _shares(weights: Sequence[Any]) -> list[Fraction]:
    """Returns the proportions of weights, rounded if their schedule would be too long."""
    exact = []
    for weight in weights:
        is_exact = isinstance(weight, (int, Fraction)) and not isinstance(weight, bool)
        checked = number("weight", weight, "a positive number", lambda w: w > 0)
        # The decimal that was written: 0.1 is 1/10.
        exact.append(Fraction(weight) if is_exact else Fraction(repr(checked)))
    shares = [weight / sum(exact) for weight in exact]
    if math.lcm(*(share.denominator for share in shares)) <= LONGEST_PERIOD:
        return shares
    counts = [max(1, math.floor(share * LONGEST_PERIOD)) for share in shares]
    rest = [share * LONGEST_PERIOD - count for share, count in zip(shares, counts, strict=True)]
    missing = max(0, LONGEST_PERIOD - sum(counts))
    for i in sorted(range(len(counts)), key=lambda i: -rest[i])[:missing]:
        counts[i] += 1
    return [Fraction(count, sum(counts)) for count in counts]


def _require_equal_specs(specs: list[Any]) -> None:
    """Checks that all batches have the same structure, types and shapes."""
    first = dict(named_parts(specs[0]))
    for i, spec in enumerate(specs[1:], start=1):
        other = dict(named_parts(spec))
        for name in [*first, *other]:
            found = first.get(name, "nothing"), other.get(name, "nothing")
            if found[0] != found[1]:
                raise ValueError(
                    "`sources` must have examples of the same structure, types and shapes. "
                    f"Received: {name} of source 0 is {found[0]}, of source {i} {found[1]}. "
                    "Convert one of them, or give parts the same names."
                )
        tf.nest.assert_same_structure(specs[0], spec)
