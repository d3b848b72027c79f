"""Packs: tensors that travel between replicas as one, and few packs in memory at a time.

A pack is a copy of what is in it, and its sum is another. TensorFlow starts whatever can start, so
all packs of a step would be made at once, and then wait for each other at the network. So a pack
is made only when the one two before has arrived: one travels while the next one is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

PACK_BYTES = 2**24
"""Smaller packs cost more calls; a larger one would add several times itself to the memory."""


def packs(values: Sequence[Any], places: Iterable[int]) -> Iterator[list[int]]:
    """Yields places of values that travel together: neighbours of one dtype.

    Args:
        values: Tensors or variables. One without a static shape counts as empty.
        places: Of the values, in the order in which they travel. One that is larger than a pack
            travels by itself.
    """
    pack: list[int] = []
    size = 0
    for i in places:
        own = (values[i].shape.num_elements() or 0) * values[i].dtype.size
        if pack and (size + own > PACK_BYTES or values[i].dtype != values[pack[0]].dtype):
            yield pack
            pack, size = [], 0
        pack.append(i)
        size += own
    if pack:
        yield pack


class Turns:
    """Lets packs wait for each other.

    Example:
        >>> turns = Turns()
        >>> for value in (1.0, 2.0, 3.0):
        ...     with turns.next():
        ...         pack = tf.constant([value])
        ...     turns.ends(pack)
    """

    def __init__(self) -> None:
        self._ends: list[list[Any]] = []

    @contextlib.contextmanager
    def next(self) -> Iterator[None]:
        """What is computed inside waits until the pack two before has arrived."""
        with tf.control_dependencies(self._ends[-2] if len(self._ends) > 1 else []):
            yield

    def ends(self, *arrived: Any) -> None:
        """Says by which tensors or operations it is seen that a pack has arrived."""
        self._ends.append([each for each in arrived if each is not None])
