"""What the chief of an asynchronous training reports.

In the logs of each epoch: how stale its gradients were. On standard error: which tasks the chief is
waiting for.
"""

from __future__ import annotations

import atexit
from typing import Any

import keras
import tensorflow as tf

from strategies.cluster.environments import notice_seconds_from_environment
from strategies.cluster.server_probe import TaskProbe
from strategies.keras_support.asynchronous.executions import busy_workers, executions_of
from strategies.keras_support.patching.ownership import is_asynchronous
from strategies.liveness.task_notice import TaskNotice
from strategies.progress import watched


class StalenessReport(keras.callbacks.Callback):
    """Adds the staleness of an epoch to its logs; the first of the callbacks.

    `staleness` is the mean over the epoch's steps of the updates that other workers applied between
    the moment a step read the weights and the moment it applied its gradient; `max_staleness` is
    the largest. With one worker both are 0. NaN where the step applies nothing with the model's
    own optimizer.
    """

    async_safe = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forgets what came before, and notes the epoch."""
        progress = watched()
        if progress is not None:
            progress.begin_epoch(epoch)
        executions_of(self.model.distribute_strategy).take_staleness()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch's staleness, in updates."""
        if logs is not None:
            staleness = executions_of(self.model.distribute_strategy).take_staleness()
            logs["staleness"] = staleness.mean
            logs["max_staleness"] = staleness.largest if staleness.steps else float("nan")


def task_probe(strategy: tf.distribute.Strategy) -> TaskProbe | None:
    """Returns the probe of an asynchronous training's tasks, or None for any other strategy."""
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
        ValueError: If TFSCALE_NOTICE_SECONDS is not a positive number.
    """
    seconds, probe = notice_seconds_from_environment(), task_probe(strategy)
    assert probe is not None
    notice = TaskNotice(probe, seconds)
    atexit.register(notice.end)
    notice.begin()
