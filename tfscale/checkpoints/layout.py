"""Where the slices of a checkpoint lie: looked at before a byte is read or a tensor is allocated.

A manifest may come from somebody else. What it claims must fit into the files that are there, so
that a checkpoint never takes more memory than it has bytes; and its slices must cover each tensor,
each element once.
"""

from __future__ import annotations

import itertools
import math
import reprlib
from collections.abc import Callable, Mapping

import numpy as np

from tfscale.checkpoints.dtypes import dtype_named
from tfscale.checkpoints.manifest import BrokenCheckpoint, Slice, StoredTensor


def check_layout(tensors: Mapping[str, StoredTensor], size_of: Callable[[str], int]) -> None:
    """Checks that files hold the slices, and slices make up the tensors.

    Args:
        tensors: The tensors by their keys, each slice of which is a box of its tensor.
        size_of: Returns the bytes of a file of the checkpoint.

    Raises:
        BrokenCheckpoint: If bytes are missing or belong to two slices, or if slices overlap or
            leave a gap.
    """
    ranges: dict[str, list[tuple[int, int, str]]] = {}
    for key, stored in tensors.items():
        item = dtype_named(stored.dtype).itemsize
        if math.prod(max(length, 1) for length in stored.shape) * item >= 2**63:
            raise BrokenCheckpoint(f"{_short(key)} has the impossible shape {stored.shape}")
        for part in stored.slices:
            end = part.offset + math.prod(part.shape) * item
            ranges.setdefault(part.file, []).append((part.offset, end, key))
    for file, found in ranges.items():
        size = size_of(file)
        filled = sorted(one for one in found if one[0] < one[1])
        for _, end, key in found:
            if end > size:
                raise BrokenCheckpoint(f"{file} is cut short: {_short(key)} is not all there")
        for (_, end, first), (start, _, second) in itertools.pairwise(filled):
            if start < end:
                raise BrokenCheckpoint(
                    f"bytes of {file} belong to two slices, of {_short(first)} and {_short(second)}"
                )
    for key, stored in tensors.items():
        _check_cover(key, stored)


def _check_cover(key: str, stored: StoredTensor) -> None:
    parts = [part for part in stored.slices if math.prod(part.shape)]
    covered, size = sum(math.prod(part.shape) for part in parts), math.prod(stored.shape)
    if covered != size:
        raise BrokenCheckpoint(f"the slices of {_short(key)} hold {covered} of {size} elements")
    if len(parts) < 2 or _lie_in_a_row(parts, stored.shape):
        return
    taken = np.zeros(stored.shape, bool)  # fewer bytes than the files have
    for part in parts:
        box = box_of(part)
        if taken[box].any():
            raise BrokenCheckpoint(f"the slices of {_short(key)} overlap")
        taken[box] = True


def _lie_in_a_row(parts: list[Slice], shape: tuple[int, ...]) -> bool:
    """Tells whether the boxes are whole but for the first dimension, and follow each other."""
    first = 0
    for part in parts:
        if part.start[:1] != (first,) or part.shape[1:] != shape[1:]:
            return False
        first += part.shape[0]
    return True


def box_of(part: Slice) -> tuple[slice, ...]:
    """Returns the index of a slice's elements in its tensor."""
    return tuple(
        slice(first, first + length) for first, length in zip(part.start, part.shape, strict=True)
    )


def _short(key: str) -> str:
    return reprlib.repr(key)
