"""The blocks that TensorFlow's allocator takes for tensors: up to twice as large as these.

The allocator looks for the smallest free block that is large enough. It cuts a tensor's part off
only if that is at most half of the block, or leaves 128 MiB; otherwise the tensor gets all of it.
Free blocks that touch each other become one. If none is large enough, a region of memory is added,
each twice as large as the one before.

Source: TensorFlow 2.21, `xla/tsl/framework/bfc_allocator.cc`, of GPUs and, with
TF_CPU_ALLOCATOR_USE_BFC=true, of CPUs.
"""

from __future__ import annotations

from bisect import bisect_left, insort

_UNIT = 256
_LARGEST_WASTE = 2**27
_FIRST_REGION = 2**21


class Blocks:
    """Memory that is taken and given back in blocks.

    Attributes:
        used: Bytes of the blocks that are taken.
        peak: The most that `used` has been.

    Example:
        >>> blocks = Blocks()
        >>> place = blocks.take(700_000)
        >>> blocks.used
        700160
        >>> blocks.give_back(place)
        >>> blocks.used, blocks.peak
        (0, 700160)
    """

    def __init__(self) -> None:
        self.used = 0
        self.peak = 0
        self._taken: dict[int, int] = {}
        self._free: list[tuple[int, int]] = []  # size and place, sorted
        self._starts: dict[int, int] = {}  # of free blocks, their sizes by place
        self._ends: dict[int, int] = {}  # and their places by their end
        self._region = _FIRST_REGION
        self._next_place = 0

    def take(self, size: int) -> int:
        """Takes a block for `size` bytes. Returns its place."""
        wanted = max(_UNIT, -(-size // _UNIT) * _UNIT)
        if bisect_left(self._free, (wanted, -1)) == len(self._free):
            self._add_region(wanted)
        found, place = self._free[bisect_left(self._free, (wanted, -1))]
        self._remove_free(found, place)
        if found >= 2 * wanted or found - wanted >= _LARGEST_WASTE:
            self._add_free(found - wanted, place + wanted)
            found = wanted
        self._taken[place] = found
        self.used += found
        self.peak = max(self.peak, self.used)
        return place

    def give_back(self, place: int) -> None:
        """Frees the block at `place`."""
        size = self._taken.pop(place)
        self.used -= size
        before, after = self._ends.get(place), self._starts.get(place + size)
        if after is not None:
            self._remove_free(after, place + size)
            size += after
        if before is not None:
            own = self._starts[before]
            self._remove_free(own, before)
            place, size = before, own + size
        self._add_free(size, place)

    def _add_region(self, wanted: int) -> None:
        size = self._region
        while size < wanted:
            size *= 2
        self._region = size if size > self._region else 2 * size
        self._add_free(size, self._next_place)
        self._next_place += size + _UNIT  # regions do not touch

    def _add_free(self, size: int, place: int) -> None:
        insort(self._free, (size, place))
        self._starts[place] = size
        self._ends[place + size] = place

    def _remove_free(self, size: int, place: int) -> None:
        del self._free[bisect_left(self._free, (size, place))]
        del self._starts[place], self._ends[place + size]
