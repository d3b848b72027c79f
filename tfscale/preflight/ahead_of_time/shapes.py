"""Arrays as XLA writes them: how many bytes they hold, and how many the chip's tiling lays out.

A TPU moves tiles of 8 x 128 numbers: an array of 10 columns takes the memory of one of 128. XLA
writes `f32[25088,10]{0,1:T(8,128)}`: dimensions; their order from the fastest on; the tile.
Source: XLA documentation, "Shapes and layout" and "Tiled layout".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^{}]*))?\})?")
_TILE = re.compile(r"T\(([\d,*]+)\)")
_MEMORY = re.compile(r"S\((\d+)\)")
_BITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Array:
    """One array on the chip.

    Attributes:
        written_bytes: What its numbers take.
        laid_out_bytes: What it takes in memory, padding included.
        is_in_hbm: Whether it lies in the chip's main memory, and not in a smaller, nearer one.
    """

    written_bytes: int
    laid_out_bytes: int
    is_in_hbm: bool = True


def arrays(text: str) -> Iterator[Array]:
    """Yields the arrays of a shape, of several where it is a tuple.

    Args:
        text: As in the text of an HLO module.

    Raises:
        ValueError: If a dtype is unknown.

    Example:
        >>> next(arrays("f32[25088,10]{0,1:T(8,128)}"))
        Array(written_bytes=1003520, laid_out_bytes=1605632, is_in_hbm=True)
    """
    for dtype, dimensions, order, layout in _SHAPE.findall(text):
        sizes = [int(size.lstrip("<=")) for size in dimensions.split(",") if size]
        fastest_first = [int(i) for i in order.split(",") if i]
        if len(fastest_first) != len(sizes):  # no layout is written: the last is the fastest
            fastest_first = list(reversed(range(len(sizes))))
        slowest_first = [sizes[i] for i in reversed(fastest_first)]
        bits = _bits(dtype)
        tile = _TILE.search(layout)
        memory = _MEMORY.search(layout)
        padded = _padded(slowest_first, tile[1]) if tile else slowest_first
        yield Array(
            written_bytes=math.ceil(math.prod(sizes) * bits / 8),
            laid_out_bytes=math.ceil(math.prod(padded) * bits / 8),
            is_in_hbm=memory is None or memory[1] == "0",
        )


def _padded(sizes: list[int], tile: str) -> list[int]:
    """Rounds the fastest dimensions up to whole tiles; tiles inside of tiles add nothing to it."""
    sides = [1 if side == "*" else int(side) for side in tile.split(",")]
    padded = [1] * (len(sides) - len(sizes)) + sizes
    for i, side in enumerate(reversed(sides), start=1):
        padded[-i] = -(-padded[-i] // side) * side
    return padded


def _bits(dtype: str) -> int:
    """Bits of a number in memory: `pred` takes a byte, `bf16` two, `f8e4m3fn` one."""
    if dtype == "pred":
        return 8
    if dtype in ("token", "opaque"):
        return 0
    found = _BITS.search(dtype)
    if found is None:
        raise ValueError(
            f"`dtype` must be one of XLA's. Received: dtype={dtype!r}. Report it, with the program."
        )
    return int(found[0])
