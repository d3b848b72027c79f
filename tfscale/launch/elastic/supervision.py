"""Supervises the workers of one host in one start of an elastic job."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from tfscale.launch.elastic.memory import peak_of_processes
from tfscale.launch.elastic.messages import (
    Ended,
    Failing,
    Finish,
    Leaving,
    Message,
    Note,
    Stop,
)
from tfscale.launch.events import (
    ConnectionLost,
    Event,
    Events,
    MessageArrived,
    OutputFailed,
    SignalReceived,
)
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import PREEMPTED_STATUS, WorkerFailure, is_own, signal_name
from tfscale.launch.output import say
from tfscale.launch.supervision import Cause, SupervisedWorker, Supervision

_SAMPLE_SECONDS = 2.0


class ElasticSupervision(Supervision):
    """Ends its workers when the rendezvous says so or is lost, and reports what happens to them.

    * A failure is reported at once, so that the workers of the other hosts are ended too.
    * A signal to the launcher means that this host leaves. Its workers get SIGTERM, whatever the
      signal, because a worker with a Checkpoint saves then. A second signal kills at once.

    Args:
        workers: The started workers of this host.
        events: The queue that workers, relays, signal handlers and the connection fill.
        grace_seconds: Seconds from SIGTERM to SIGKILL. At least 0.
        guard: Guards the process group of every worker.
        send: Sends a message to the rendezvous.

    Attributes:
        finish: What the rendezvous said if the job is over, or None.
        lost: Why the connection to the rendezvous has ended, or None.
    """

    def __init__(
        self,
        workers: Sequence[SupervisedWorker],
        events: Events,
        grace_seconds: float,
        guard: OrphanGuard,
        send: Callable[[Message], None],
    ) -> None:
        super().__init__(workers, events, grace_seconds, guard)
        self.finish: Finish | None = None
        self.lost: ConnectionLost | None = None
        self._send = send
        self._peaks: dict[int, int] = {}
        self._sample_at = time.monotonic()

    def ended(self) -> Ended:
        """Returns how the workers have ended."""
        statuses = {worker.process.returncode for worker in self._workers.values()}
        return Ended(
            succeeded=statuses == {0},
            saved=statuses == {PREEMPTED_STATUS},
            peak=max(self._peaks.values(), default=None),
        )

    def _take(self, event: Event | None) -> None:
        match event:
            case MessageArrived(Note(text)):
                say(text)
            case MessageArrived(Stop()):
                self._end_as_told(event)
            case MessageArrived(Finish() as finish):
                self.finish = finish
                self._end_as_told(event)
            case ConnectionLost():
                self.lost = event
                say(f"the rendezvous is lost: {event.reason}; ending the workers of this host")
                self._end_as_told(event)
            case SignalReceived(number):
                again, self._signal = self._signal is not None, self._signal or number
                self._send(Leaving(f"{signal_name(number)} received", 128 + number))
                if self._judge_at is not None:
                    self._judge(is_late=True)
                self._stop_all(event, signal.SIGTERM, 0.0 if again else self._grace_seconds)
            case _:
                super()._take(event)

    def _end_as_told(self, event: MessageArrived | ConnectionLost) -> None:
        if self._judge_at is not None:
            self._judge(is_late=True)
        self._stop_all(event, signal.SIGTERM, self._grace_seconds)

    def _stop_all(self, cause: Cause, signal_number: int, grace_seconds: float) -> None:
        is_first = self._cause is None
        self._sample_memory()  # before the signal: a worker that has ended has no memory to read
        super()._stop_all(cause, signal_number, grace_seconds)
        if is_first and isinstance(cause, WorkerFailure):
            tasks = map(self._task, self._workers.values())
            own = {task.worker for task in tasks if task.returncode and is_own(task)}
            is_known = not cause.witness and cause.worker in own
            self._send(Failing(cause.sentence(), cause.status, is_known))
        elif is_first and isinstance(cause, OutputFailed):
            self._send(Leaving(f"output cannot be written ({cause.error})", 1))

    def _own_deadline(self) -> float | None:
        judged = super()._own_deadline()
        return self._sample_at if judged is None else min(judged, self._sample_at)

    def _do_what_is_due(self, now: float) -> None:
        super()._do_what_is_due(now)
        if now >= self._sample_at:
            self._sample_at = now + _SAMPLE_SECONDS
            self._sample_memory()

    def _sample_memory(self) -> None:
        for index, worker in self._workers.items():
            peak = peak_of_processes(worker.process.group)
            if peak is not None:
                self._peaks[index] = max(peak, self._peaks.get(index, 0))
