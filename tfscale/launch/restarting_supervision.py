"""Supervises a job with tasks that are restarted by themselves while the others continue."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from strategies.extension import read_exit_reason
from tfscale.launch.events import Events, SignalReceived, WorkerExited
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import Task, WorkerFailure
from tfscale.launch.output import say
from tfscale.launch.restarts import NoRestart, Restart, RestartPolicy
from tfscale.launch.supervision import Cause, SupervisedWorker, Supervision


class RestartingSupervision(Supervision):
    """Restarts single tasks; a subclass decides which.

    A first signal to the launcher is passed on to those that save only, because they need the
    others to save.

    Args:
        workers: All started tasks of the job.
        events: The queue that tasks, relays and signal handlers fill.
        grace_seconds: Seconds from the first signal to SIGKILL. At least 0.
        guard: Guards the process group of every task.
        start: Starts a new process for the task of one that has ended.
        policy: Decides from a task's own failures whether and when it is restarted.
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
        super().__init__(workers, events, grace_seconds, guard)
        self._start = start
        self._policy = policy
        self._failures: dict[str, list[WorkerFailure]] = {}
        self._coming_back: dict[str, tuple[float, SupervisedWorker]] = {}

    def _comes_back(self, worker: SupervisedWorker, event: WorkerExited) -> bool:
        """Plans the restart of a task that has failed. Returns whether there will be one."""
        failures = self._failures.setdefault(worker.task, [])
        failures.append(self._failure(worker, event))
        verb = "failed" if event.returncode else "ended"
        failed = failures[-1].sentence(verb, with_why=False)
        match self._policy.decide(failures):
            case Restart() as restart:
                self._coming_back[worker.task] = event.at + restart.wait_seconds, worker
                say(f"{failed}. {self._planned(worker, restart)}")
                return True
            case NoRestart(reason):
                if reason is not None:
                    say(f"{failed}. It is not restarted: {reason}")
                return False

    def _planned(self, worker: SupervisedWorker, restart: Restart) -> str:
        """Returns a sentence about a restart, without its end mark."""
        return (
            f"Only this worker is restarted, in {restart.wait_seconds:g} s: "
            f"{restart.used} of its {self._policy.max_restarts} restarts used"
        )

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
                worker = self._start(old)
                self._workers[worker.process.index] = worker
                self._outputs_open.add(worker.process.index)

    def _failure(self, worker: SupervisedWorker, event: WorkerExited) -> WorkerFailure:
        reason = read_exit_reason(worker.exit_reason_file)
        return WorkerFailure(
            event.worker,
            event.returncode,
            event.at - worker.process.started,
            worker.task,
            reason.why if reason else "",
        )

    def _task(self, worker: SupervisedWorker) -> Task:
        return dataclasses.replace(super()._task(worker), task=worker.task)

    def _stop_all(
        self,
        cause: Cause,
        signal_number: int,
        grace_seconds: float,
    ) -> None:
        is_first_signal = self._cause is None and isinstance(cause, SignalReceived)
        savers = list(self._savers())
        if is_first_signal and any(worker.process.returncode is None for worker in savers):
            self._cause = cause
            self._stop(savers, signal_number, grace_seconds)
            return
        self._coming_back.clear()
        super()._stop_all(cause, signal_number, grace_seconds)
