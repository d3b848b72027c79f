"""Layers whose weights are divided over several variables.

table = tfscale.parallel.ShardedEmbedding(50_000_000, 64, num_shards=2)

Import this package before you load a model with `ShardedEmbedding` from a file.
"""

from tfscale.parallel.resharding import resharded
from tfscale.parallel.row_uniform import RowUniform
from tfscale.parallel.sharded_embedding import ShardedEmbedding

__all__ = ["RowUniform", "ShardedEmbedding", "resharded"]
