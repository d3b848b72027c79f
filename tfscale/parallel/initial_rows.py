"""What the shards of a table begin with: the same table for any number of shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.extension import is_asynchronous, stands_on_server

_BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True, eq=False)
class InitialRows:
    """Draws a table, and deals its rows out to shards in turn.

    An initializer with a method `rows(indices, output_dim, dtype)` draws each shard by itself, and
    on servers block by block: the chief holds 16 MiB of float32 at a time. Any other draws the
    whole table, once: it may draw anew each time it is asked.

    Attributes:
        initializer: A Keras initializer.
        shape: Of the table: rows, elements of a row.
        num_shards: Shards. Positive.
        dtype: Of the table.
    """

    initializer: Any
    shape: tuple[int, int]
    num_shards: int
    dtype: str

    def of_shards(self) -> list[Callable[..., Any] | str]:
        """Returns the initializer of each shard's variable, in their order."""
        if self._in_blocks:
            return ["zeros"] * self.num_shards
        draw = getattr(self.initializer, "rows", None)
        if draw is not None:
            return [self._drawing(draw, shard) for shard in range(self.num_shards)]
        with tf.init_scope():
            whole = self.initializer(self.shape, dtype=self.dtype)
        return [_part(whole[shard :: self.num_shards]) for shard in range(self.num_shards)]

    def fill(self, part: Any, shard: int) -> None:
        """Writes a shard's rows into its variable on a server; elsewhere they are there already.

        Raises:
            ValueError: If the variable has no value yet.
        """
        if not self._in_blocks:
            return
        if not stands_on_server(part):
            raise ValueError(
                "`build` must be called outside of graphs, before the model that holds the table "
                f"is. Received: {part.path!r} without a value. Call the layer's build() in the "
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
