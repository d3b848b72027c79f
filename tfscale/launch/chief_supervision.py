"""Supervises a job with a chief: the chief's end ends the job, and workers restart separately."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence

from tfscale.launch.events import Events, WorkerExited
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.restarting_supervision import RestartingSupervision
from tfscale.launch.restarts import RestartPolicy
from tfscale.launch.supervision import Cause, SupervisedWorker


class ChiefSupervision(RestartingSupervision):
    """Supervises a chief, its workers and its parameter servers.

    * If the chief ends, in success or failure, all others get SIGTERM, and SIGKILL after the grace
      period.
    * If a worker fails, it is restarted according to the policy. The others continue.
    * If a parameter server fails, the job has failed, because the server's variables are lost.
    * A signal to the launcher is passed on to the chief only, because the chief needs the others
      to save.

    Args:
        workers: All started tasks of the job, the chief first.
        events: The queue that tasks, relays and signal handlers fill.
        grace_seconds: Seconds from the first signal to SIGKILL. At least 0.
        guard: Guards the process group of every task.
        start: Starts a new process for the task of one that has ended.
        policy: Decides from a worker's own failures whether and when it is restarted.
    """

    def __init__(
        self,
        workers: Sequence[SupervisedWorker],
        events: Events,
        grace_seconds: float,
        guard: OrphanGuard,
        start: Callable[[SupervisedWorker], SupervisedWorker],
        policy: RestartPolicy,
    ) -> None:
        super().__init__(workers, events, grace_seconds, guard, start, policy)
        self._chief = workers[0]

    def _worker_exited(self, event: WorkerExited) -> None:
        worker = self._workers[event.worker]
        if worker is self._chief:
            super()._worker_exited(event)
            self._stop(self._workers.values(), signal.SIGTERM, self._grace_seconds)
        elif self._chief.process.returncode is not None or self._comes_back(worker, event):
            self._note_end(event)
        else:
            super()._worker_exited(event)

    def _comes_back(self, worker: SupervisedWorker, event: WorkerExited) -> bool:
        is_failure = event.returncode != 0 and self._cause is None
        is_worker = worker.cluster.task_type == "worker"
        return is_worker and is_failure and super()._comes_back(worker, event)

    @property
    def _judge_seconds(self) -> float:
        return 0.0  # the chief's end ends the job in any case

    def _stop_all(
        self,
        cause: Cause,
        signal_number: int,
        grace_seconds: float,
    ) -> None:
        self._coming_back.clear()  # the chief saves without those that have failed
        super()._stop_all(cause, signal_number, grace_seconds)

    def _savers(self) -> Iterable[SupervisedWorker]:
        return [self._chief]
