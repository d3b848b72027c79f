"""The integral of a gradient along a line, by Gauss-Legendre quadrature on segments.

The error of a segment is known: its integral must be the difference of the function at its ends. A
segment with too large an error is divided in three, so that the kinks of ReLU and of max-pooling,
where no rule of higher order helps, are in ever smaller segments. The one in the middle is where
the tangents of both ends meet. There a single kink between two straight lines is in the centre,
where a symmetric rule of an even number of nodes makes no error.

Gauss-Legendre nodes lie inside of a segment, so a kink at its end does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_NARROWEST = 64
"""Width of the narrowest segment that is divided, in units of the machine precision."""
_CHILDREN = 3


@dataclass(frozen=True)
class Evaluated:
    """What is known of segments.

    Attributes:
        integrals: For each input, the integral of each segment: shape [segments, ...].
        starts: The function at their starts. Shape [segments], as are the others.
        ends: The function at their ends.
        first_slopes: Its slopes at the first nodes, per unit of the line's parameter.
        last_slopes: Its slopes at the last nodes.
    """

    integrals: list[np.ndarray]
    starts: np.ndarray
    ends: np.ndarray
    first_slopes: np.ndarray
    last_slopes: np.ndarray

    def sizes(self) -> np.ndarray:
        """Returns the sums of the absolute values of each integral."""
        return np.asarray(sum(_sum_of_rows(np.abs(each)) for each in self.integrals))

    def gaps(self) -> np.ndarray:
        """Returns by how much each integral exceeds the difference of the function."""
        sums = sum(_sum_of_rows(each) for each in self.integrals)
        return np.asarray(sums - (self.ends - self.starts))


@dataclass(frozen=True)
class Integrals:
    """The integrals of the rows.

    Attributes:
        values: For each input, in float64: shape [rows, ...].
        starts: The function at 0. Shape [rows].
        ends: The function at 1.
        points: Nodes that were evaluated for each row.
        scales: The largest absolute value of the function that was met.
    """

    values: list[np.ndarray]
    starts: np.ndarray
    ends: np.ndarray
    points: np.ndarray
    scales: np.ndarray


Evaluate = Callable[[np.ndarray, np.ndarray, np.ndarray], Evaluated]


def nodes(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions and weights of the Gauss-Legendre rule on [0, 1]."""
    places, weights = np.polynomial.legendre.leggauss(points)
    return (places + 1) / 2, weights / 2


@dataclass
class _Segments:
    rows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    are_last: np.ndarray
    """Whether they are taken as they are, because the row has no points left."""

    def __len__(self) -> int:
        return len(self.rows)


def integrate(
    evaluate: Evaluate,
    num_rows: int,
    shapes: list[tuple[int, ...]],
    *,
    points: int,
    most_points: int,
    tolerance: float,
    precision: float,
    at_once: int,
    say: Callable[[str], None] = lambda line: None,
) -> Integrals:
    """Integrates from 0 to 1 for each row.

    Args:
        evaluate: Takes row, start and end of segments, arrays of one length of at most `at_once`.
        num_rows: Number of rows. Positive.
        shapes: Shape of a row of each input.
        points: Nodes of a segment. At least 2.
        most_points: Most nodes for a row. At least twice `points`.
        tolerance: Largest sum of the errors of a row's segments, as a part of the largest absolute
            value of the function.
        precision: The machine precision of the function, below which errors are not seen.
        at_once: Segments to evaluate at a time; bounds the memory.
        say: Takes lines of progress.
    """
    found = Integrals(
        [np.zeros((num_rows, *shape)) for shape in shapes],
        starts=np.zeros(num_rows),
        ends=np.zeros(num_rows),
        points=np.zeros(num_rows, int),
        scales=np.zeros(num_rows),
    )
    spent = np.zeros(num_rows)  # error of the segments that are taken
    terms = np.zeros(num_rows)  # what the function is summed from: its rounding errors are of these
    todo = _Segments(
        np.arange(num_rows), np.zeros(num_rows), np.ones(num_rows), np.zeros(num_rows, bool)
    )
    round_ = 0
    while len(todo):
        if round_:
            say(f"{len(todo):,} segments of {len(np.unique(todo.rows)):,} rows, round {round_ + 1}")
        counts = np.bincount(todo.rows, minlength=num_rows)
        rejected: list[tuple[_Segments, np.ndarray, np.ndarray]] = []
        left = spent.copy()
        for begin in range(0, len(todo), at_once):
            part = _taken(todo, slice(begin, begin + at_once))
            values = evaluate(part.rows, part.starts, part.ends)
            rows = part.rows
            if round_ == 0:
                found.starts[rows], found.ends[rows] = values.starts, values.ends
            largest = np.maximum(np.abs(values.starts), np.abs(values.ends))
            np.maximum.at(found.scales, rows, largest)
            np.maximum.at(
                terms, rows, np.maximum(largest, values.sizes() / (part.ends - part.starts))
            )
            np.add.at(found.points, rows, points)
            gaps = np.abs(values.gaps())
            allowed = np.maximum(tolerance * found.scales[rows] - left[rows], 0) / (
                2 * counts[rows]
            )
            is_taken = (
                (gaps <= np.maximum(allowed, 2 * precision * terms[rows]))
                | part.are_last
                | (part.ends - part.starts < _NARROWEST * precision)
            )
            for total, own in zip(found.values, values.integrals, strict=True):
                np.add.at(total, rows[is_taken], own[is_taken])
            np.add.at(spent, rows[is_taken], gaps[is_taken])
            if not np.all(is_taken):
                again = ~is_taken
                rejected.append((_taken(part, again), gaps[again], _kinks(part, values)[again]))
        todo = _divided(rejected, (most_points - found.points) // points)
        round_ += 1
    return found


def _divided(
    rejected: list[tuple[_Segments, np.ndarray, np.ndarray]], affordable: np.ndarray
) -> _Segments:
    """Divides segments in three, those with the largest errors of each row.

    The others are evaluated again, to be taken as they are, as are the new ones in the worst case.

    Args:
        rejected: Segments, their errors and where to divide them.
        affordable: How many segments may still be evaluated for each row.
    """
    if not rejected:
        return _Segments(*(np.zeros(0, int) for _ in range(4)))
    parts, gap_parts, kink_parts = zip(*rejected, strict=True)
    rows = np.concatenate([part.rows for part in parts])
    starts = np.concatenate([part.starts for part in parts])
    ends = np.concatenate([part.ends for part in parts])
    gaps, kinks = np.concatenate(gap_parts), np.concatenate(kink_parts)
    counts = np.bincount(rows, minlength=len(affordable))
    # 3 s new ones now and once more, and the c - s others: at most what is affordable.
    most = np.maximum((affordable - counts) // (2 * _CHILDREN - 1), 0)
    order = np.lexsort((-gaps, rows))
    ranks = np.empty(len(rows), int)
    ranks[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_divided = ranks < most[rows]
    width = (ends - starts) / 16
    low, high = kinks - width, kinks + width
    d = is_divided
    new = [(starts[d], low[d]), (low[d], high[d]), (high[d], ends[d])]
    return _Segments(
        np.concatenate([rows[~d], *[rows[d]] * _CHILDREN]),
        np.concatenate([starts[~d], *(begin for begin, _ in new)]),
        np.concatenate([ends[~d], *(end for _, end in new)]),
        np.repeat([True, False], [int(np.sum(~d)), _CHILDREN * int(np.sum(d))]),
    )


def _kinks(part: _Segments, values: Evaluated) -> np.ndarray:
    """Returns where the tangents of both ends meet, at least 1/8 of the width inside."""
    width = part.ends - part.starts
    turn = values.first_slopes - values.last_slopes
    rise = values.ends - values.starts - values.last_slopes * width
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(turn == 0, 0.5, rise / (turn * width))
    share = np.where(np.isfinite(share), share, 0.5)
    return np.asarray(part.starts + width * np.clip(share, 1 / 8, 7 / 8))


def _taken(segments: _Segments, which: slice | np.ndarray) -> _Segments:
    return _Segments(
        segments.rows[which],
        segments.starts[which],
        segments.ends[which],
        segments.are_last[which],
    )


def _sum_of_rows(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.reshape(len(values), -1).sum(axis=1, dtype=np.float64))
