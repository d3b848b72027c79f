"""One replica of many, whose sums over replicas are in its graph: what a chip is to compile.

`TpuStandIn` claims to be one of N replicas and sums over itself alone. The chip's compiler must see
the all-reduces too: they need buffers, and hold what they sum until all have it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from strategies.extension import TpuStandIn


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
            if part.dtype == tf.float64:
                # What a TPU makes of it, which has none: a pair of float32.
                high = tf.cast(part, tf.float32)
                low = tf.cast(part - tf.cast(high, part.dtype), tf.float32)
                return tf.cast(total(high), part.dtype) + tf.cast(total(low), part.dtype)
            # TPUStrategy's own operation, CrossReplicaSum, has no kernel on a CPU; XLA is given the
            # same all-reduce by this one.
            return gen_xla_ops.xla_all_reduce(
                part, group_assignment=everyone, reduce_op="Add", mode="CrossReplica"
            )

        def reduced(part: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
            summed = total(tf.convert_to_tensor(part))  # TPUStrategy makes slices dense too
            is_mean = reduce_op == tf.distribute.ReduceOp.MEAN
            return summed / tf.cast(replicas, summed.dtype) if is_mean else summed

        return tf.nest.map_structure(reduced, value)
