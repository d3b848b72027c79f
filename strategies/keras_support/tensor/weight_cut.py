"""How a matrix is divided among the devices of a replica."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class WeightCut:
    """The division of one axis.

    Attributes:
        axis: The axis. May count from the end.
        size: Its size.
        num_parts: Devices.
        groups: Equal groups of neighbours along the axis, of which each device has its part: 3 for
            queries, keys and values in one matrix. Divides `size`.
    """

    axis: int
    size: int
    num_parts: int
    groups: int = 1

    @functools.cached_property
    def _places(self) -> list[np.ndarray[Any, Any]]:
        every = np.arange(self.size).reshape(self.groups, -1)
        # The first parts are one larger where the size is no multiple.
        return [part.reshape(-1) for part in np.array_split(every, self.num_parts, axis=1)]

    def size_of(self, part: int) -> int:
        """Returns the size of a part along the axis."""
        return len(self._places[part])

    def shape_of(self, shape: Sequence[int], part: int) -> tuple[int, ...]:
        """Returns the shape of a part of a tensor of the given shape."""
        sizes = list(shape)
        sizes[self.axis] = self.size_of(part)
        return tuple(sizes)

    def begin(self, part: int) -> int:
        """Returns the first place of a part. Only with one group."""
        return int(self._places[part][0])

    def along(self, axis: int) -> WeightCut:
        """Returns the same division of another tensor's axis."""
        return WeightCut(axis, self.size, self.num_parts, self.groups)

    def take(self, whole: Any, part: int) -> Any:
        """Returns a part of an array or a tensor."""
        if isinstance(whole, np.ndarray):
            return np.take(whole, self._places[part], axis=self.axis)
        if self.groups > 1:
            return tf.gather(whole, self._places[part], axis=self.axis)
        axis = self.axis % whole.shape.rank
        first = self.begin(part)
        own = [slice(None)] * axis + [slice(first, first + self.size_of(part))]
        return whole[tuple(own)]

    def joined(self, parts: Sequence[Any]) -> Any:
        """Returns the whole of all parts' tensors."""
        whole = tf.concat(list(parts), axis=self.axis)
        if self.groups == 1:
            return whole
        back = np.argsort(np.concatenate(self._places))
        return tf.gather(whole, back, axis=self.axis)
