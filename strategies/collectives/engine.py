"""Chooses what runs the collectives between workers: TensorFlow's engines, or MPI.

"auto" uses MPI only if the launcher of every worker offers it, and only if an all-reduce of 1 MiB
is then faster. It is asked for and measured by all workers together, and the chief says what was
chosen.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.announcement import announce
from strategies.cluster.chief import is_chief
from strategies.collectives.mpi_launcher import MpiLauncher
from strategies.collectives.mpi_library import leave_at_end, started_world, why_not_available
from strategies.collectives.ordered_collectives import OrderedCollectives
from strategies.coordination.launchers import first_launcher, replace_launchers
from strategies.coordination.peer_failures import PeerFailures
from strategies.coordination.rendezvous import exchange, worker_index
from strategies.devices import all_on

_MEASURED_BYTES = 2**20
_MEASURED_CALLS = 5
_YES = "available"
_RING = "TensorFlow's ring"


def choose_engine(strategy: tf.distribute.Strategy, all_reduce: str) -> None:
    """Makes a strategy use MPI if that was asked for, or is there and faster.

    Args:
        strategy: A new strategy of several workers, with TensorFlow's own engine.
        all_reduce: "mpi", "auto", or the name of an engine of TensorFlow. The same on all workers.

    Raises:
        ValueError: If "mpi" was asked for and a worker cannot use it, or workers ask for different
            engines.
        RuntimeError: If MPI does not start.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    reason = why_not_available(os.environ) or _why_not_for(strategy)
    answers = exchange(strategy, "all_reduce", f"{all_reduce}\n{reason or _YES}")
    asked, reasons = zip(*(answer.split("\n", 1) for answer in answers), strict=True)
    if len(set(asked)) > 1:
        parts = ", ".join(f"worker {i}: {name!r}" for i, name in enumerate(asked))
        raise ValueError(
            f"`all_reduce` must be the same on all workers. Received: {parts}. Pass the same value."
        )
    missing = {i: text for i, text in enumerate(reasons) if text != _YES}
    if all_reduce == "mpi" and missing:
        index, text = next(iter(missing.items()))
        raise ValueError(
            "`all_reduce` must not be 'mpi' where MPI is not available. Received: "
            f"all_reduce='mpi', but on worker {index} {text}. Use 'auto'."
        )
    if all_reduce not in ("mpi", "auto"):
        return
    if missing:
        if is_chief(strategy) and all_on("CPU", strategy):
            index, text = next(iter(missing.items()))
            announce(f"all_reduce='auto' uses {_RING}: on worker {index} {text}.")
        return
    own = worker_index(strategy)
    world, initialised = started_world(len(answers), own)
    collectives = OrderedCollectives(world, PeerFailures(strategy).check)
    leave_at_end(lambda: bool(collectives.failure), initialised)
    if all_reduce == "auto" and not _is_faster(strategy, collectives):
        return
    _use(strategy, collectives)


def _why_not_for(strategy: tf.distribute.Strategy) -> str:
    if all_on("CPU", strategy):
        return ""
    return "the replicas are not on CPUs, and MPI reduces in the memory of the host"


def _is_faster(strategy: tf.distribute.Strategy, collectives: OrderedCollectives) -> bool:
    """Measures both engines on all workers together; returns the chief's verdict."""
    own = tf.ones([_MEASURED_BYTES // 4])
    launcher = first_launcher(strategy)

    def by_mpi() -> Any:
        ticket = collectives.count
        collectives.start("all-reduce", own.numpy(), ticket)
        return collectives.wait(ticket)

    ring, mpi = _milliseconds(lambda: launcher.all_reduce(own)), _milliseconds(by_mpi)
    verdict = exchange(strategy, "the engine of all_reduce", f"{mpi < ring}")[0] == "True"
    if is_chief(strategy):
        announce(
            f"all_reduce='auto' uses {'MPI' if verdict else _RING}: 1 MiB took "
            f"{mpi:.2f} ms by MPI and {ring:.2f} ms by the ring."
        )
    return verdict


def _milliseconds(call: Callable[[], Any]) -> float:
    """Returns the shortest of a few calls, which other programs disturb least."""
    shortest = math.inf
    for _ in range(_MEASURED_CALLS):
        begin = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - begin)
    return 1e3 * shortest


def _use(strategy: tf.distribute.Strategy, collectives: OrderedCollectives) -> None:
    with tf.device("CPU:0"):
        next_ticket = tf.Variable(collectives.count, dtype=tf.int64, trainable=False)
    replace_launchers(strategy, lambda one: MpiLauncher(one, collectives, next_ticket))
