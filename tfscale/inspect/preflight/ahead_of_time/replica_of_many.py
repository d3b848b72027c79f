"""One replica of many, whose sums over replicas are in its graph: what a chip is to compile.

`TpuStandIn` claims to be one of N replicas and sums over itself alone. The chip's compiler must see
the all-reduces too: they need buffers, and hold what they sum until all have it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from strategies.tpu_stand_in import TpuStandIn


class ReplicaOfMany(TpuStandIn):
    """A strategy under which a step is traced with its all-reduces, and cannot be run.

    Every replica is given the same program, in which this one's index is 0: that changes a few
    constants, and no array's size.

    Args:
        num_replicas: Replicas it claims. Positive.

    Example:
        >>> ReplicaOfMany(num_replicas=4).num_replicas_in_sync
        4
    """

    def __init__(self, num_replicas: int) -> None:
        super().__init__(num_replicas)
        # TensorFlow then asks for a sum in the replica's own graph, as it does for XLA on GPUs,
        # and not across replicas, of which there is one.
        self.extended._use_merge_call = lambda: False
        self.extended._replica_ctx_all_reduce = self._all_reduce

    def _all_reduce(self, reduce_op: Any, value: Any, options: Any = None) -> Any:
        """Puts XLA's all-reduce over all replicas into the graph, as one of TPUStrategy becomes."""
        replicas = self.num_replicas_in_sync
        everyone = [list(range(replicas))]

        def total(part: tf.Tensor) -> tf.Tensor:
            # TPUStrategy's own operation, CrossReplicaSum, has no kernel on a CPU; XLA is given the
            # same all-reduce by this one.
            summed = gen_xla_ops.xla_all_reduce(
                part, group_assignment=everyone, reduce_op="Add", mode="CrossReplica"
            )
            is_mean = reduce_op == tf.distribute.ReduceOp.MEAN
            return summed / tf.cast(replicas, summed.dtype) if is_mean else summed

        def among_others(rows: tf.Tensor) -> tf.Tensor:
            behind = [0, (replicas - 1) * rows.shape[0]]
            return tf.pad(rows, [behind, *[[0, 0]] * (rows.shape.rank - 1)])

        def reduced(part: Any) -> Any:
            if not isinstance(part, tf.IndexedSlices):
                return total(part)
            # An embedding's rows are gathered: an all-reduce of zeros but for one's own.
            values, indices = (total(among_others(p)) for p in (part.values, part.indices))
            return tf.IndexedSlices(values, indices, part.dense_shape)

        return tf.nest.map_structure(reduced, value)
