"""Best-fit decreasing: packs pieces of known lengths into bins of equal size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Bins(NamedTuple):
    """Which pieces each bin has.

    Attributes:
        pieces: int64 [num_pieces], numbers of pieces, bin after bin.
        splits: int64 [num_bins + 1], the bounds of each bin in `pieces`.
    """

    pieces: np.ndarray
    splits: np.ndarray


def best_fit(lengths: np.ndarray, size: int, seed: int) -> Bins:
    """Packs pieces into bins, the longest first, each into the fullest bin that has room for it.

    All pieces of one length, and all bins with the same room, are handled at once: the time grows
    with the number of different lengths, and hardly with the number of pieces.

    Args:
        lengths: int64 [num_pieces], each in `[1, size]`.
        size: Capacity of a bin.
        seed: Which of the pieces of one length go together, and their order within a bin.

    Returns:
        Bins in random order, with their pieces in random order.

    Example:
        >>> bins = best_fit(np.array([3, 5, 2, 6]), size=8, seed=0)
        >>> [sorted(part.tolist()) for part in np.split(bins.pieces, bins.splits[1:-1])]
        [[0, 1], [2, 3]]
    """
    random = np.random.Generator(np.random.PCG64(seed))
    shuffled = random.permutation(len(lengths))
    ordered = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    counts = np.bincount(lengths, minlength=size + 1)
    bin_of = np.empty(len(lengths), np.int64)  # by place in `ordered`
    with_room: list[list[np.ndarray]] = [[] for _ in range(size + 1)]  # numbers of bins, by room
    has_bins = np.zeros(size + 1, bool)
    num_bins = done = 0
    for length in range(size, 0, -1):
        left = int(counts[length])
        rooms = iter(np.flatnonzero(has_bins[length:]) + length if left else ())
        while left:
            room = int(next(rooms, 0))
            if room:
                bins = np.concatenate(with_room[room])
                with_room[room], has_bins[room] = [], False
            else:
                room = size
                bins = np.arange(num_bins, num_bins - (-left // (room // length)))
                num_bins += len(bins)
            fits = room // length
            full, rest = divmod(left, fits)
            full = min(full, len(bins))
            rest = rest if full < len(bins) else 0
            filled = bins[: full + (rest > 0)]
            placed = np.repeat(filled, fits)[: full * fits + rest]
            bin_of[done : done + len(placed)] = placed
            done, left = done + len(placed), left - len(placed)
            for group, room_left in (
                (filled[:full], room - fits * length),
                (filled[full:], room - rest * length),
                (bins[len(filled) :], room),
            ):
                if len(group) and room_left:
                    with_room[room_left].append(group)
                    has_bins[room_left] = True
    # The order in which pieces were placed is that of their lengths.
    bin_of = random.permutation(num_bins)[bin_of]
    places = random.permutation(len(lengths))
    by_bin = places[np.argsort(bin_of[places], kind="stable")]
    splits = np.zeros(num_bins + 1, np.int64)
    np.cumsum(np.bincount(bin_of, minlength=num_bins), out=splits[1:])
    return Bins(ordered[by_bin], splits)
