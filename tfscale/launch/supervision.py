"""Supervises the workers of a job: a failure or a signal ends all of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from strategies import Cluster
from strategies.extension import read_exit_reason
from tfscale.launch.events import (
    ConnectionLost,
    Event,
    Events,
    MessageArrived,
    OutputEnded,
    OutputFailed,
    SignalReceived,
    WorkerExited,
    next_event,
)
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import (
    JUDGE_SECONDS,
    PREEMPTED_STATUS,
    Outcome,
    Task,
    WorkerFailure,
    at_fault,
)
from tfscale.launch.output import OutputRelay, say
from tfscale.launch.stopped_workers import StoppedWorkers
from tfscale.launch.worker_process import WorkerProcess

Cause: TypeAlias = WorkerFailure | SignalReceived | OutputFailed | MessageArrived | ConnectionLost
"""What ends a job."""


@dataclass(frozen=True)
class SupervisedWorker:
    """A running worker.

    Attributes:
        process: Its process.
        relay: The relay of its output.
        cluster: The cluster, with this worker's task.
        exit_reason_file: The file that it writes its exit reason to.
        task: Its name, such as "worker 0".
        notice_seconds: How long it may be stopped before the launcher says so.
    """

    process: WorkerProcess
    relay: OutputRelay
    cluster: Cluster
    exit_reason_file: Path
    task: str
    notice_seconds: float


def task_name(cluster: Cluster) -> str:
    """Returns the name of a task: "chief", "worker 0" or "ps 0"."""
    name = cluster.task_type
    return name if name == "chief" else f"{name} {cluster.task_index}"


class Supervision:
    """Handles the events of a job until all of its processes have ended.

    * If a worker fails, every group gets SIGTERM, and SIGKILL after the grace period. If the
      worker seems to have failed because of another, that one has a few seconds to end first; see
      `fault`.
    * If a worker succeeds, the processes left in its group are ended the same way. The others
      continue.
    * A worker that has been stopped for long, as by SIGSTOP, is named, and nothing is ended.
    * A signal to the launcher is passed on, and SIGKILL follows after the grace period. A signal
      while the job is being ended kills at once.

    Args:
        workers: All started workers of the job on this host.
        events: The queue that workers, relays and signal handlers fill.
        grace_seconds: Seconds from the first signal to SIGKILL. At least 0.
        guard: Guards the process group of every worker.
    """

    def __init__(
        self,
        workers: Sequence[SupervisedWorker],
        events: Events,
        grace_seconds: float,
        guard: OrphanGuard,
    ) -> None:
        self._workers = {worker.process.index: worker for worker in workers}
        self._events = events
        self._grace_seconds = grace_seconds
        self._guard = guard
        # The cause of the job's end. Later events do not replace it.
        self._cause: Cause | None = None
        self._ends: dict[int, float] = {}  # When each worker ended.
        self._judge_at: float | None = None  # Deadline of the decision which worker is at fault.
        self._outputs_open = set(self._workers)
        self._signal: int | None = None  # The first to the launcher, even if not the cause.
        seconds = min(worker.notice_seconds for worker in workers)
        self._stopped = StoppedWorkers(seconds, time.monotonic(), say)

    def run(self) -> Outcome:
        """Waits until every group has ended and all output has been passed on."""
        while running := [w for w in self._workers.values() if not w.process.ended]:
            now = time.monotonic()
            deadlines = [*(w.process.next_deadline(now) for w in running), self._own_deadline()]
            if self._cause is None:  # what is ended is killed, stopped or not
                deadlines.append(self._stopped.next_look)
            deadline = min((d for d in deadlines if d is not None), default=None)
            self._take(next_event(self._events, deadline))
            self._do_what_is_due(time.monotonic())
            if self._cause is None:
                self._stopped.look(time.monotonic(), self._alive())
            for worker in running:
                worker.process.advance(time.monotonic())
                if worker.process.ended:
                    self._let_go(worker)
        # Wait for the reader of the output as any program would, but not after a signal.
        while self._outputs_open:
            patience = None if self._signal is None else time.monotonic() + 1.0
            event = next_event(self._events, patience)
            if event is None:
                break
            self._take(event)
        return self._outcome()

    def _alive(self) -> Iterator[tuple[str, int]]:
        """Yields name and process id of each worker that has not ended."""
        for worker in self._workers.values():
            if worker.process.returncode is None:
                yield worker.task, worker.process.group

    def _own_deadline(self) -> float | None:
        """When the supervision itself must act next, or None."""
        return self._judge_at

    def _do_what_is_due(self, now: float) -> None:
        """Acts on `_own_deadline`."""
        if self._judge_at is not None:
            self._judge(is_late=now >= self._judge_at)

    def _take(self, event: Event | None) -> None:
        match event:
            case WorkerExited():
                self._worker_exited(event)
            case SignalReceived():
                self._signal = self._signal or event.number
                if self._judge_at is not None:
                    self._judge(is_late=True)
                kill_now = self._cause is not None
                self._stop_all(event, event.number, 0.0 if kill_now else self._grace_seconds)
            case OutputFailed() if self._cause is None:
                self._stop_all(event, signal.SIGTERM, self._grace_seconds)
            case OutputEnded():
                self._outputs_open.discard(event.worker)

    def _worker_exited(self, event: WorkerExited) -> None:
        self._note_end(event)
        if event.returncode != 0 and self._cause is None:
            self._judge_at = self._judge_at or event.at + self._judge_seconds
        if self._judge_at is not None:
            self._judge(is_late=event.at >= self._judge_at)

    @property
    def _judge_seconds(self) -> float:
        return JUDGE_SECONDS

    def _judge(self, is_late: bool) -> None:
        """Decides which worker is at fault, once known or when time is up, and ends the others."""
        tasks = [self._task(worker) for worker in self._judged()]
        failure = at_fault(tasks, is_late or all(task.ended is not None for task in tasks))
        if failure is None:
            return
        self._judge_at = None
        if any(task.ended is None for task in tasks):
            # The last line of the job has the cause.
            what = failure.sentence(with_why=False)
            say(f"{what}; ending the others within {self._grace_seconds:g} s")
        self._stop_all(failure, signal.SIGTERM, self._grace_seconds)

    def _task(self, worker: SupervisedWorker) -> Task:
        process = worker.process
        return Task(
            worker=process.index,
            name=worker.task,
            started=process.started,
            returncode=process.returncode,
            ended=self._ends.get(process.index),
            exit_reason=read_exit_reason(worker.exit_reason_file),
        )

    def _note_end(self, event: WorkerExited) -> None:
        process = self._workers[event.worker].process
        process.returncode = event.returncode
        self._ends[event.worker] = event.at
        process.stop(signal.SIGTERM, event.at + self._grace_seconds)

    def _stop_all(
        self,
        cause: Cause,
        signal_number: int,
        grace_seconds: float,
    ) -> None:
        if self._cause is None:
            self._cause = cause
        self._stop(self._workers.values(), signal_number, grace_seconds)

    def _stop(
        self, workers: Iterable[SupervisedWorker], signal_number: int, grace_seconds: float
    ) -> None:
        kill_at = time.monotonic() + grace_seconds
        for worker in workers:
            if not worker.process.ended:
                worker.process.stop(signal_number, kill_at)

    def _let_go(self, worker: SupervisedWorker) -> None:
        worker.relay.end()
        if worker.process.returncode is not None:
            self._guard.discard(worker.process.group)

    def _outcome(self) -> Outcome:
        cause = self._cause
        returncodes = {i: worker.process.returncode for i, worker in self._workers.items()}
        return Outcome(
            first_failure=cause if isinstance(cause, WorkerFailure) else None,
            stop_signal=self._signal,
            output_error=cause.error if isinstance(cause, OutputFailed) else None,
            not_ended=tuple(i for i, returncode in returncodes.items() if returncode is None),
            all_saved=isinstance(cause, SignalReceived)
            and {worker.process.returncode for worker in self._savers()} == {PREEMPTED_STATUS},
        )

    def _judged(self) -> Iterable[SupervisedWorker]:
        """Returns the workers of which one may be at fault."""
        return self._workers.values()

    def _savers(self) -> Iterable[SupervisedWorker]:
        """Returns the workers that have something to save."""
        return self._workers.values()
