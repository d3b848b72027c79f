"""Supervises a job with a chief: the chief's end ends the job, and workers restart separately."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterable, Sequence

from strategies.extension import read_exit_reason
from tfscale.launch.events import Events, OutputFailed, SignalReceived, WorkerExited
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import Task, WorkerFailure
from tfscale.launch.output import say
from tfscale.launch.restarts import NoRestart, Restart, RestartPolicy
from tfscale.launch.supervision import SupervisedWorker, Supervision, task_name

Key = tuple[str, int]


class ChiefSupervision(Supervision):
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
        start: Starts a new process for a task.
        policy: Decides from a worker's own failures whether and when it is restarted.
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
        failed = failures[-1].sentence("failed", with_why=False)
        match self._policy.decide(failures):
            case Restart() as restart:
                self._coming_back[_key(worker)] = event.at + restart.wait_seconds, worker
                say(
                    f"{failed}. Only this worker is restarted, in {restart.wait_seconds:g} s: "
                    f"{restart.used} of its {self._policy.max_restarts} restarts used"
                )
                return True
            case NoRestart(reason):
                if reason is not None:
                    say(f"{failed}. It is not restarted: {reason}")
                return False

    def _own_deadline(self) -> float | None:
        # A worker whose process group still exists has its own deadline.
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
        return 0.0  # the chief's end ends the job in any case

    def _failure(self, worker: SupervisedWorker, event: WorkerExited) -> WorkerFailure:
        reason = read_exit_reason(worker.exit_reason_file)
        return WorkerFailure(
            event.worker,
            event.returncode,
            event.at - worker.process.started,
            task_name(worker.cluster),
            reason.why if reason else "",
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
