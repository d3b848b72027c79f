"""Adds up the gradients of divided weights over the replicas, between the devices of one rank.

Device d of every replica has the same parts. Their gradients travel as one pack a dtype, are added
up on that device of the first replica, and copied from there: they never pass through another rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.step_context import StepContext
from strategies.keras_support.context.weighted_gradients import weighted
from strategies.keras_support.placement.replica_devices import (
    devices_by_replica,
    devices_of_this_replica,
)
from strategies.keras_support.tensor.parts import is_divided


def ranks_of(gradients: Sequence[Any], step: StepContext) -> dict[int, int]:
    """Returns, by place, the rank of each dense gradient that is not on the replica's first device.

    Args:
        gradients: This replica's; None where there is none.
        step: Of this replica.
    """
    if tf.executing_eagerly() or not any(map(is_divided, step.layers)):
        return {}
    devices = devices_of_this_replica()
    return {
        i: devices.index(g.device)
        for i, g in enumerate(gradients)
        if isinstance(g, tf.Tensor) and g.device in devices[1:]
    }


def means_by_rank(
    gradients: Sequence[tf.Tensor], ranks: Sequence[int], step: StepContext
) -> list[tf.Tensor]:
    """Returns the means over all examples, the same on all replicas.

    Args:
        gradients: This replica's, dense, each on the device of its rank.
        ranks: By gradient.
        step: Of this replica, on several replicas of one process.
    """
    devices = devices_of_this_replica()
    packs: dict[tuple[int, tf.DType], list[int]] = {}
    wide = []
    for i, (gradient, rank) in enumerate(zip(gradients, ranks, strict=True)):
        with tf.device(devices[rank]):
            wide.append(weighted(gradient, step.fraction()))
        packs.setdefault((rank, wide[i].dtype), []).append(i)
    own = []
    for (rank, _), members in packs.items():
        with tf.device(devices[rank]):
            own.append(tf.concat([tf.reshape(wide[i], [-1]) for i in members], axis=0))
    totals = _added_up(own, [rank for rank, _ in packs])
    means: list[Any] = [None] * len(gradients)
    for (rank, _), members, total in zip(packs, packs.values(), totals, strict=True):
        with tf.device(devices[rank]):
            parts = tf.split(total, [tf.size(wide[i]) for i in members])
            for i, part in zip(members, parts, strict=True):
                means[i] = tf.cast(tf.reshape(part, tf.shape(wide[i])), gradients[i].dtype)
    return means


def _added_up(packs: list[tf.Tensor], ranks: Sequence[int]) -> list[tf.Tensor]:
    replica = tf.distribute.get_replica_context()

    def add(strategy: tf.distribute.Strategy, of_replicas: Any) -> Any:
        devices = devices_by_replica(strategy)
        totals = []
        for pack, rank in zip(of_replicas, ranks, strict=True):
            with tf.device(devices[0][rank]):
                totals.append(tf.add_n(list(strategy.experimental_local_results(pack))))

        def copies(context: tf.distribute.ValueContext) -> list[tf.Tensor]:
            own = devices[context.replica_id_in_sync_group]
            found = []
            for total, rank in zip(totals, ranks, strict=True):
                with tf.device(own[rank]):
                    found.append(tf.identity(total))
            return found

        return strategy.experimental_distribute_values_from_function(copies)

    return list(replica.merge_call(add, args=(packs,)))
