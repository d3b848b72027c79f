"""The GPUs of a variant's processes, on a host that has some.

A variant that needs more GPUs than there are is missing, and the others are timed without it. On a
host without GPUs replicas are logical CPUs, and nothing is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import tensorflow as tf

import strategies
from tfscale.bench.turns import Turns
from tfscale.bench.variant import PROCESS_VARIABLE, Race

Way = Callable[[Race, Turns, int], None]
"""Trains a variant, given the race, the connection to it, and the variant's number of workers."""


def with_gpus(way: Way, needed: int) -> Way:
    """Returns the way for a process that trains on several GPUs.

    Args:
        way: The way to train.
        needed: GPUs that it needs.
    """

    def taken(race: Race, turns: Turns, num_workers: int) -> None:
        found = len(tf.config.list_physical_devices("GPU"))
        if 0 < found < needed:
            turns.fail("missing", f"needs {needed} GPUs, and this host has {found}")
            return
        way(race, turns, num_workers)

    return taken


def one_gpu_each(way: Way, processes: int) -> Way:
    """Returns the way for one of several processes, each of which sees a GPU of its own.

    Args:
        way: The way to train.
        processes: Processes of the variant.
    """

    def taken(race: Race, turns: Turns, num_workers: int) -> None:
        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            tf.config.set_visible_devices(gpus[process_index()], "GPU")
        way(race, turns, num_workers)

    return with_gpus(taken, processes)


def process_index() -> int:
    """Returns which of the processes of its variant this one is, from 0."""
    if "TF_CONFIG" in os.environ:
        return strategies.Cluster.from_tf_config(os.environ["TF_CONFIG"]).worker_index
    return int(os.environ.get(PROCESS_VARIABLE, "0"))
