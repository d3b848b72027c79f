"""Adds up gradients over the replicas, each between devices of the same place in their replicas.

A device of a replica has a stage of a pipeline, or the same parts of divided matrices as the
devices of its place in other replicas. Their gradients travel as one pack a dtype, are added up on
that device of the first replica, and copied from there: they never pass through another place.
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


def means_by_device(
    gradients: Sequence[tf.Tensor], places: Sequence[int], step: StepContext
) -> list[tf.Tensor]:
    """Returns the means over all examples, the same on all replicas.

    Args:
        gradients: This replica's, dense, each on one of its devices.
        places: By gradient, which of the replica's devices that is.
        step: Of this replica, on several replicas of one process.
    """
    devices = devices_of_this_replica()
    packs: dict[tuple[int, tf.DType], list[int]] = {}
    wide = []
    for i, (gradient, place) in enumerate(zip(gradients, places, strict=True)):
        with tf.device(devices[place]):
            wide.append(weighted(gradient, step.fraction()))
        packs.setdefault((place, wide[i].dtype), []).append(i)
    own = []
    for (place, _), members in packs.items():
        with tf.device(devices[place]):
            own.append(tf.concat([tf.reshape(wide[i], [-1]) for i in members], axis=0))
    totals = _added_up(own, [place for place, _ in packs])
    means: list[Any] = [None] * len(gradients)
    for (place, _), members, total in zip(packs, packs.values(), totals, strict=True):
        with tf.device(devices[place]):
            parts = tf.split(total, [tf.size(wide[i]) for i in members])
            for i, part in zip(members, parts, strict=True):
                mean = tf.cast(tf.reshape(part, tf.shape(wide[i])), gradients[i].dtype)
                mean.set_shape(gradients[i].shape)
                means[i] = mean
    return means


def _added_up(packs: list[tf.Tensor], places: Sequence[int]) -> list[tf.Tensor]:
    replica = tf.distribute.get_replica_context()

    def add(strategy: tf.distribute.Strategy, of_replicas: Any) -> Any:
        devices = devices_by_replica(strategy)
        totals = []
        for pack, place in zip(of_replicas, places, strict=True):
            with tf.device(devices[0][place]):
                totals.append(tf.add_n(list(strategy.experimental_local_results(pack))))

        def copies(context: tf.distribute.ValueContext) -> list[tf.Tensor]:
            own = devices[context.replica_id_in_sync_group]
            found = []
            for total, place in zip(totals, places, strict=True):
                with tf.device(own[place]):
                    found.append(tf.identity(total))
            return found

        return strategy.experimental_distribute_values_from_function(copies)

    return list(replica.merge_call(add, args=(packs,)))
