"""Adds up gradients over the replicas, of which each keeps its part.

TensorFlow has no reduce-scatter on CPUs. Replicas of one process add up the pieces of a part on its
owner's device. Between workers packs of gradients are all-reduced, and the other parts dropped.

Replica r has n_r of the n examples; a mean over examples is sum_r (n_r / n) g_r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.packs import Turns, packs
from strategies.keras_support.context.step_context import current_step, sum_over_replicas
from strategies.keras_support.context.weighted_gradients import weighted
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.placement.replica_devices import devices_by_replica
from strategies.keras_support.sharding.cuts import Cut
from strategies.keras_support.sharding.sharded_value import computes_as_tensor
from strategies.keras_support.sharding.stages import own_replica


@computes_as_tensor
@dataclass(frozen=True)
class ShardedGradient:
    """A gradient of the global batch of which each replica has a part.

    Only an optimizer can use it: what a step computes from a part would differ by replica.

    Attributes:
        part: This replica's.
        cut: The division.
        name: Of the variable, for messages.
    """

    part: tf.Tensor
    cut: Cut
    name: str

    @property
    def shape(self) -> tf.TensorShape:
        """The shape of the whole."""
        return tf.TensorShape(self.cut.shape)

    @property
    def dtype(self) -> tf.DType:
        """The dtype of the part."""
        return self.part.dtype

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        raise ValueError(
            f"The gradient of {self.name!r} is sharded, so only `optimizer.apply` can use it. "
            "Received: a step that computes with it. Pass it to the optimizer as it is, with "
            "`clipnorm` or `global_clipnorm` there, or build the strategy with shard=1."
        )


def sum_of_parts(
    gradients: Sequence[tf.Tensor], cuts: Sequence[Cut], places: Sequence[int] | None = None
) -> list[tf.Tensor]:
    """Returns this replica's parts of the means over all examples.

    Args:
        gradients: This replica's whole gradients, dense.
        cuts: Their divisions.
        places: By gradient, on which of a replica's devices it is added up; None for the first.
    """
    if not gradients:
        return []
    own, _ = own_replica()
    for gradient, cut in zip(gradients, cuts, strict=True):
        gradient.set_shape(cut.shape)  # that of rows made dense, as of a tied embedding, is unknown
    own_parts = [_weighted(g) for g in gradients]
    if not is_multi_worker(tf.distribute.get_strategy()):
        pieces = [
            [cut.take(g, r) for r in range(cut.num_parts)]
            for g, cut in zip(own_parts, cuts, strict=True)
        ]
        parts = _added_on_owners(pieces, places)
    else:
        parts = [None] * len(gradients)
        turns = Turns()
        last_first = reversed(range(len(own_parts)))  # they are ready first
        for pack in packs(own_parts, last_first):
            with turns.next():
                flat = tf.concat([tf.reshape(own_parts[i], [-1]) for i in pack], axis=0)
            total = sum_over_replicas(flat)
            sums = tf.split(total, [own_parts[i].shape.num_elements() for i in pack])
            for i, whole in zip(pack, sums, strict=True):
                parts[i] = cuts[i].take(tf.reshape(whole, cuts[i].shape), own)
            turns.ends(total)
    return [tf.cast(part, g.dtype) for part, g in zip(parts, gradients, strict=True)]


def sum_of_pieces(pieces: Sequence[Sequence[tf.Tensor]]) -> list[tf.Tensor]:
    """Returns this replica's parts of the means, from gradients that are in pieces already.

    Args:
        pieces: Of each gradient, this replica's piece for every replica. In one process only.
    """
    if not pieces:
        return []
    parts = _added_on_owners([[_weighted(piece) for piece in each] for each in pieces])
    return [tf.cast(part, each[0].dtype) for part, each in zip(parts, pieces, strict=True)]


def _weighted(gradient: tf.Tensor) -> tf.Tensor:
    """Returns a gradient times this replica's part of the examples."""
    step = current_step()
    return weighted(gradient, 1.0 if step is None else step.fraction())


def _added_on_owners(
    pieces: Sequence[Sequence[tf.Tensor]], places: Sequence[int] | None = None
) -> list[Any]:
    """Adds up, on a device of each replica, what all replicas have for it."""
    replica = tf.distribute.get_replica_context()
    places = [0] * len(pieces) if places is None else places

    def add(strategy: tf.distribute.Strategy, all_pieces: Any) -> Any:
        of_replicas = [
            [strategy.experimental_local_results(piece) for piece in each] for each in all_pieces
        ]

        def parts_of(context: tf.distribute.ValueContext) -> list[tf.Tensor]:
            own = context.replica_id_in_sync_group
            found = []
            for each, place in zip(of_replicas, places, strict=True):
                with tf.device(devices_by_replica(strategy)[own][place]):
                    found.append(tf.add_n(list(each[own])))
            return found

        return strategy.experimental_distribute_values_from_function(parts_of)

    return list(replica.merge_call(add, args=([list(each) for each in pieces],)))
