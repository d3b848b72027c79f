"""What the chief of an asynchronous training knows of its tasks while it waits for them."""

from __future__ import annotations

import atexit

import tensorflow as tf

from strategies.cluster.environments import notice_seconds_from_environment
from strategies.cluster.server_probe import TaskProbe
from strategies.keras_support.asynchronous.executions import busy_workers
from strategies.keras_support.patching.ownership import is_asynchronous
from strategies.liveness.task_notice import TaskNotice


def task_probe(strategy: tf.distribute.Strategy) -> TaskProbe | None:
    """Returns what asks the tasks of an asynchronous training, or None for any other strategy."""
    if not is_asynchronous(strategy):
        return None
    jobs = strategy._cluster_resolver.cluster_spec().as_dict()
    addresses = {
        f"{job} {index}": address
        for job in ("worker", "ps")
        for index, address in enumerate(jobs.get(job, ()))
    }
    return TaskProbe(addresses, lambda: busy_workers(strategy))


def give_task_notices(strategy: tf.distribute.Strategy) -> None:
    """Starts the notice of a chief.

    Args:
        strategy: A parameter server strategy.

    Raises:
        ValueError: If TFSCALE_NOTICE_SECONDS is no positive number.
    """
    seconds, probe = notice_seconds_from_environment(), task_probe(strategy)
    assert probe is not None
    notice = TaskNotice(probe, seconds)
    atexit.register(notice.end)
    notice.begin()
