"""Models in parts: one table over several variables.

table = tfscale.parallel.ShardedEmbedding(50_000_000, 64, num_shards=2)

A model file names `ShardedEmbedding`; to load that file, import this package first.
"""

from tfscale.parallel.resharding import resharded
from tfscale.parallel.row_uniform import RowUniform
from tfscale.parallel.sharded_embedding import ShardedEmbedding

__all__ = ["RowUniform", "ShardedEmbedding", "resharded"]
