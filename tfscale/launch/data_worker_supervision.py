"""Supervises a job with data workers, which compute the input of the workers that train."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence

from tfscale.launch.events import Events, WorkerExited
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import Task
from tfscale.launch.restarting_supervision import RestartingSupervision
from tfscale.launch.restarts import Restart, RestartPolicy
from tfscale.launch.supervision import SupervisedWorker, Supervision


class DataWorkerSupervision(RestartingSupervision):
    """Supervises workers that train, and data workers.

    * The job ends when the workers that train have ended. Then every data worker gets SIGTERM, and
      SIGKILL after the grace period.
    * A data worker that ends earlier is restarted according to the policy. The others continue. If
      the last data worker has failed and is not restarted, the job has failed.
    * A first signal to the launcher is passed on to the workers that train only, because they may
      need input until they have saved.

    Args:
        workers: The workers that train.
        data_workers: The data workers. At least one.
        events: The queue that tasks, relays and signal handlers fill.
        grace_seconds: Seconds from the first signal to SIGKILL. At least 0.
        guard: Guards the process group of every task.
        start: Starts a new process for a data worker that has ended.
        policy: Decides from a data worker's own ends whether and when it is restarted.
    """

    def __init__(
        self,
        workers: Sequence[SupervisedWorker],
        data_workers: Sequence[SupervisedWorker],
        events: Events,
        grace_seconds: float,
        guard: OrphanGuard,
        start: Callable[[SupervisedWorker], SupervisedWorker],
        policy: RestartPolicy,
    ) -> None:
        super().__init__([*workers, *data_workers], events, grace_seconds, guard, start, policy)
        self._training = list(workers)
        self._in_service = {worker.task for worker in data_workers}

    def _worker_exited(self, event: WorkerExited) -> None:
        worker = self._workers[event.worker]
        if worker in self._training:
            super()._worker_exited(event)
            if self._has_trained():
                self._coming_back.clear()
                others = [w for w in self._workers.values() if w not in self._training]
                self._stop(others, signal.SIGTERM, self._grace_seconds)
            return
        self._note_end(event)
        if self._cause is not None or self._has_trained() or self._comes_back(worker, event):
            return
        self._in_service.discard(worker.task)
        if not self._in_service and event.returncode != 0:
            self._stop_all(self._failure(worker, event), signal.SIGTERM, self._grace_seconds)

    def _has_trained(self) -> bool:
        return all(worker.process.returncode is not None for worker in self._training)

    def _planned(self, worker: SupervisedWorker, restart: Restart) -> str:
        return f"It is restarted in {restart.wait_seconds:g} s, and training continues"

    def _task(self, worker: SupervisedWorker) -> Task:
        return Supervision._task(self, worker)  # all that are judged are workers

    def _judged(self) -> Iterable[SupervisedWorker]:
        return self._training

    def _savers(self) -> Iterable[SupervisedWorker]:
        return self._training
