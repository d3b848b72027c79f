"""Watches a job that a chief runs: its end is the job's, and a worker may come back alone."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterable, Sequence

from strategies.extension import read_exit_reason
from tfscale.launch.events import Events, OutputFailed, SignalReceived, WorkerExited
from tfscale.launch.fault import Task
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import WorkerFailure
from tfscale.launch.output import say
from tfscale.launch.restarts import NoRestart, Restart, RestartPolicy
from tfscale.launch.supervision import SupervisedWorker, Supervision, task_name

Key = tuple[str, int]


class ChiefSupervision(Supervision):
    """Supervises a chief, its workers and its parameter servers.

    * The chief ends, well or not: SIGTERM to all others, SIGKILL after the grace.
    * A worker fails: it is started again, where the policy has it; the others run on.
    * A parameter server fails: the job has failed, for what it held is lost.
    * A signal to the launcher goes to the chief, which needs the others to save.

    Args:
        workers: All tasks of the job, started, the chief first.
        events: The queue that tasks, relays and signal handlers fill.
        grace_seconds: Time from the first signal to SIGKILL. At least 0.
        guard: Has every task's group in its care.
        start: Starts the process of a task once more.
        policy: Whether and when a failed worker comes back, by its own failures.
    """

    def __init__(
        self,
        workers: Sequence[SupervisedWorker],
        events: Events,
        grace_seconds: float,
        guard: OrphanGuard,
        start: Callable[[str, int], SupervisedWorker],
        policy: RestartPolicy,
    ) -> None:
        super().__init__(workers, events, grace_seconds, guard)
        self._chief = workers[0]
        self._start = start
        self._policy = policy
        self._failures: dict[Key, list[WorkerFailure]] = {}
        self._coming_back: dict[Key, tuple[float, SupervisedWorker]] = {}

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
        if worker.cluster.task_type != "worker" or not is_failure:
            return False
        failures = self._failures.setdefault(_key(worker), [])
        failures.append(self._failure(worker, event))
        failed = f"{failures[-1].task} failed: {failures[-1].how}"
        match self._policy.decide(failures):
            case Restart() as restart:
                self._coming_back[_key(worker)] = event.at + restart.wait_seconds, worker
                say(
                    f"{failed}. It is started again in {restart.wait_seconds:g} s, alone: "
                    f"{restart.used} of its {self._policy.max_restarts} restarts used"
                )
                return True
            case NoRestart(reason):
                if reason is not None:
                    say(f"{failed}. It is not started again: {reason}")
                return False

    def _own_deadline(self) -> float | None:
        # One whose group is not gone yet has a deadline of its own.
        due = [due for due, old in self._coming_back.values() if old.process.ended]
        judged = super()._own_deadline()
        return min(due if judged is None else [*due, judged], default=None)

    def _do_what_is_due(self, now: float) -> None:
        super()._do_what_is_due(now)
        for task, (due, old) in list(self._coming_back.items()):
            if now >= due and old.process.ended:
                del self._coming_back[task]
                worker = self._start(*task)
                self._workers[worker.process.index] = worker
                self._outputs_open.add(worker.process.index)

    @property
    def _judge_seconds(self) -> float:
        return 0.0  # the chief's end is the job's, whatever the others say

    def _failure(self, worker: SupervisedWorker, event: WorkerExited) -> WorkerFailure:
        words = read_exit_reason(worker.words)
        return WorkerFailure(
            event.worker,
            event.returncode,
            event.at - worker.process.started,
            task_name(worker.cluster),
            words.why if words else "",
        )

    def _task(self, worker: SupervisedWorker) -> Task:
        return dataclasses.replace(super()._task(worker), task=task_name(worker.cluster))

    def _stop_all(
        self,
        cause: WorkerFailure | SignalReceived | OutputFailed,
        signal_number: int,
        grace_seconds: float,
    ) -> None:
        self._coming_back.clear()
        is_first_signal = self._cause is None and isinstance(cause, SignalReceived)
        if not is_first_signal or self._chief.process.returncode is not None:
            super()._stop_all(cause, signal_number, grace_seconds)
            return
        self._cause = cause
        self._stop([self._chief], signal_number, grace_seconds)

    def _savers(self) -> Iterable[SupervisedWorker]:
        return [self._chief]


def _key(worker: SupervisedWorker) -> Key:
    return worker.cluster.task_type, worker.cluster.task_index
