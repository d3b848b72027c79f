"""Models that are divided over devices: tables in shards, layers in stages.

table = tfscale.parallel.ShardedEmbedding(50_000_000, 64, num_shards=2)
pipeline = tfscale.parallel.Pipeline(model, stages=2, microbatches=8)

Import this package before you load a model with `ShardedEmbedding` from a file.
"""

from tfscale.parallel.dividing import tensor_parallel
from tfscale.parallel.pipeline import Pipeline
from tfscale.parallel.resharding import resharded
from tfscale.parallel.row_uniform import RowUniform
from tfscale.parallel.sharded_embedding import ShardedEmbedding
from tfscale.parallel.tensor_rules import TRANSFORMER, TensorRule
from tfscale.parallel.whole_model import whole

__all__ = [
    "TRANSFORMER",
    "Pipeline",
    "RowUniform",
    "ShardedEmbedding",
    "TensorRule",
    "resharded",
    "tensor_parallel",
    "whole",
]
