"""Initial values of a sharded table: the same table for any number of shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.extension import is_asynchronous, is_on_server

_BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True, eq=False)
class InitialRows:
    """Draws a table and distributes its rows over the shards in turn.

    An initializer with a method `rows(indices, output_dim, dtype)` draws each shard separately, and
    on parameter servers block by block, so that the chief needs only 16 MiB of float32 at a time.
    Any other initializer draws the whole table once, because a second call may give other values.

    Attributes:
        initializer: A Keras initializer.
        shape: Shape of the table: rows, and elements of a row.
        num_shards: Number of shards. Positive.
        dtype: The dtype of the table.
    """

    initializer: Any
    shape: tuple[int, int]
    num_shards: int
    dtype: str

    def of_shards(self) -> list[Callable[..., Any] | str]:
        """Returns the initializers of the shards' variables, in order."""
        if self._in_blocks:
            return ["zeros"] * self.num_shards
        draw = getattr(self.initializer, "rows", None)
        if draw is not None:
            return [self._drawing(draw, shard) for shard in range(self.num_shards)]
        with tf.init_scope():
            whole = self.initializer(self.shape, dtype=self.dtype)
        return [_part(whole[shard :: self.num_shards]) for shard in range(self.num_shards)]

    def fill(self, part: Any, shard: int) -> None:
        """Writes a shard's rows to its variable on a server. Otherwise they are already there.

        Raises:
            ValueError: If the variable has no value yet.
        """
        if not self._in_blocks:
            return
        if not is_on_server(part):
            raise ValueError(
                "`build` must be called outside of graphs, before the model with the table is "
                f"built. Received: {part.path!r} without a value. Call the layer's build() in the "
                "strategy's scope."
            )
        indices, width = self._indices(shard), self.shape[1]
        size = max(1, _BLOCK_ELEMENTS // width)
        for first in range(0, len(indices), size):
            block = indices[first : first + size]
            drawn = tf.cast(self.initializer.rows(block, width, self.dtype), part.dtype)
            places = tf.range(first, first + len(block), dtype=tf.int64)
            part.value.scatter_update(tf.IndexedSlices(drawn, places))

    @property
    def _in_blocks(self) -> bool:
        is_on_servers = is_asynchronous(tf.distribute.get_strategy())
        return is_on_servers and hasattr(self.initializer, "rows")

    def _indices(self, shard: int) -> range:
        return range(self.shape[0])[shard :: self.num_shards]

    def _drawing(self, draw: Callable[..., Any], shard: int) -> Callable[..., Any]:
        return lambda shape, dtype=None: draw(
            self._indices(shard), self.shape[1], dtype or self.dtype
        )


def _part(rows: Any) -> Callable[..., Any]:
    return lambda shape, dtype=None: rows
