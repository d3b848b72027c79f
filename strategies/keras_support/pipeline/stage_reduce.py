"""Adds up the gradients of a stage over the replicas, between the devices of that stage.

Each stage has one pack a dtype. It is added up on the first replica's device of the stage, and
copied from there: the gradients of one stage never pass through the device of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import Source
from strategies.keras_support.context.step_context import StepContext
from strategies.keras_support.context.weighted_gradients import weighted
from strategies.keras_support.placement.replica_devices import (
    devices_by_replica,
    devices_of_this_replica,
)


def mean_by_stage(
    gradients: Sequence[tf.Tensor], stages: Sequence[int], step: StepContext
) -> list[tf.Tensor]:
    """Returns the means over all examples, the same on all replicas.

    Args:
        gradients: This replica's, dense, each on the device of its stage.
        stages: By gradient.
        step: Of this replica, on several replicas of one process.
    """
    devices = devices_of_this_replica()
    packs: dict[tuple[int, tf.DType], list[int]] = {}
    wide = []
    for i, (gradient, stage) in enumerate(zip(gradients, stages, strict=True)):
        with tf.device(devices[stage]):
            wide.append(weighted(gradient, step.fraction()))
        packs.setdefault((stage, wide[i].dtype), []).append(i)
    own = []
    for (stage, _), members in packs.items():
        with tf.device(devices[stage]):
            own.append(tf.concat([tf.reshape(wide[i], [-1]) for i in members], axis=0))
    totals = _added_up(own, [stage for stage, _ in packs])
    means: list[Any] = [None] * len(gradients)
    for (stage, _), members, total in zip(packs, packs.values(), totals, strict=True):
        with tf.device(devices[stage]):
            parts = tf.split(total, [wide[i].shape.num_elements() for i in members])
            for i, part in zip(members, parts, strict=True):
                means[i] = tf.cast(tf.reshape(part, wide[i].shape), gradients[i].dtype)
    step.lineage.mark(means, Source.REDUCED)
    return means


def _added_up(packs: list[tf.Tensor], stages: Sequence[int]) -> list[tf.Tensor]:
    replica = tf.distribute.get_replica_context()

    def add(strategy: tf.distribute.Strategy, of_replicas: Any) -> Any:
        devices = devices_by_replica(strategy)
        totals = []
        for pack, stage in zip(of_replicas, stages, strict=True):
            with tf.device(devices[0][stage]):
                totals.append(tf.add_n(list(strategy.experimental_local_results(pack))))

        def copies(context: tf.distribute.ValueContext) -> list[tf.Tensor]:
            own = devices[context.replica_id_in_sync_group]
            found = []
            for total, stage in zip(totals, stages, strict=True):
                with tf.device(own[stage]):
                    found.append(tf.identity(total))
            return found

        return strategy.experimental_distribute_values_from_function(copies)

    return list(replica.merge_call(add, args=(packs,)))
