"""One start of a job under `mpiexec`, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence

from strategies.extension import start_seconds_from_environment
from tfscale.launch.engines.end_report import reported_task
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.engines.mpi.command import Implementation
from tfscale.launch.engines.mpi.report import Reports
from tfscale.launch.events import (
    Event,
    Events,
    OutputEnded,
    OutputFailed,
    SignalReceived,
    WorkerExited,
    next_event,
)
from tfscale.launch.outcome import (
    JUDGE_SECONDS,
    PREEMPTED_STATUS,
    Outcome,
    Task,
    WorkerFailure,
    at_fault,
)
from tfscale.launch.output import OutputRelay, SharedOutput, say
from tfscale.launch.worker_process import WorkerProcess

# The workers end by themselves within the grace period; then mpiexec has to.
_MPIEXEC_SECONDS = 5.0
_OUTPUT_SECONDS = 1.0
_MPIEXEC = -1  # its index among events; those of the workers are their ranks


class MpiStart:
    """Runs `mpiexec` once.

    Args:
        command: The command line.
        kind: Whose launcher it is.
        request: What the user asked for.
        events: The job's queue.
        output: Receives what mpiexec prints, which is the output of all workers.
    """

    def __init__(
        self,
        command: Sequence[str],
        kind: Implementation,
        request: JobRequest,
        events: Events,
        output: OutputOfWorkers,
    ) -> None:
        self._kind = kind
        self._num_workers = request.num_workers
        self._grace_seconds = request.grace_seconds
        self._events = events
        self._output = output
        read_end, write_end = os.pipe()
        self._began = time.monotonic()
        self._process = WorkerProcess(_MPIEXEC, command, os.environ, write_end, events)
        os.close(write_end)
        self._relay = OutputRelay(
            _MPIEXEC, "mpiexec", read_end, self._output, events, has_prefix=False
        )
        self._output_is_open = True
        self._signal: int | None = None
        self._output_error: str | None = None
        self._end_at: float | None = None
        self._judge_at: float | None = None
        seconds = start_seconds_from_environment({**os.environ, **request.environment})
        self._start_seconds = seconds
        self._start_by: float | None = self._began + seconds
        self._failure: WorkerFailure | None = None

    def run(self) -> Outcome:
        """Waits for the end of mpiexec and of its output."""
        while not self._process.ended:
            now = time.monotonic()
            deadlines = [self._process.next_deadline(now), self._end_at, self._judge_at]
            deadlines += [self._start_by]
            self._take(next_event(self._events, min((d for d in deadlines if d), default=None)))
            if self._start_by is not None and time.monotonic() >= self._start_by:
                self._check_that_all_have_begun()
            if self._judge_at is not None:
                self._judge(is_late=time.monotonic() >= self._judge_at)
            if self._end_at is not None and time.monotonic() >= self._end_at:
                self._end_mpiexec()
            self._end_mpiexec_after_its_workers()
            self._process.advance(time.monotonic())
        self._relay.end()
        while self._output_is_open:
            event = next_event(self._events, time.monotonic() + _OUTPUT_SECONDS)
            if event is None and self._signal is not None:
                break  # its reader has stopped reading
            self._take(event)
        return self._outcome()

    def _take(self, event: Event | None) -> None:
        match event:
            case WorkerExited() if event.worker != _MPIEXEC:
                if event.returncode and self._signal is None and self._failure is None:
                    self._judge_at = self._judge_at or event.at + JUDGE_SECONDS
            case WorkerExited():
                self._process.returncode = event.returncode
                self._process.stop(signal.SIGTERM, event.at + self._grace_seconds)
            case SignalReceived() if self._signal is None:
                self._signal = event.number
                self._end_workers()
            case SignalReceived():
                self._end_mpiexec()
            case OutputFailed() if self._output_error is None:
                self._output_error = event.error
                self._end_workers()
            case OutputEnded():
                self._output_is_open = False

    def _judge(self, is_late: bool) -> None:
        """Decides which worker is at fault, once known or when time is up, and ends the others."""
        reports = self._output.reports.ends
        self._failure = at_fault(self._tasks(), is_late or len(reports) == self._num_workers)
        if self._failure is None:
            return
        self._judge_at = None
        if len(reports) < self._num_workers:
            what = self._failure.sentence(with_why=False)
            say(f"{what}; ending the others within {self._grace_seconds:g} s")
            self._end_workers()

    def _check_that_all_have_begun(self) -> None:
        self._start_by = None
        begun = self._output.reports.begun
        missing = [f"worker {rank}" for rank in range(self._num_workers) if rank not in begun]
        if missing and self._signal is None and self._failure is None:
            why = f"it has not started {', '.join(missing[:8])} in {self._start_seconds:g} s"
            self._failure = WorkerFailure(0, 1, self._start_seconds, task="mpiexec", why=why)
            say(f"{why}; ending it")
            self._end_workers()
            self._end_mpiexec()

    def _end_workers(self) -> None:
        # Only to mpiexec: its helpers, which are in its group, would die of this signal.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.group, signal.SIGUSR1)
        self._end_at = time.monotonic() + self._grace_seconds + _MPIEXEC_SECONDS

    def _end_mpiexec_after_its_workers(self) -> None:
        """Ends Hydra's mpiexec if some worker has failed and all have ended: it stays for them."""
        ends = self._output.reports.ends
        is_over = len(ends) == self._num_workers and any(end.returncode for end in ends.values())
        if is_over and self._kind is Implementation.HYDRA and not self._output.is_over:
            self._output.is_over = True
            self._end_mpiexec()

    def _end_mpiexec(self) -> None:
        self._end_at = None
        self._process.stop(signal.SIGTERM, time.monotonic() + _MPIEXEC_SECONDS)

    def _outcome(self) -> Outcome:
        returncodes = [report.returncode for report in self._output.reports.ends.values()]
        not_ended = () if self._process.returncode is not None else (0,)
        if self._output_error is not None:
            return Outcome(output_error=self._output_error, not_ended=not_ended)
        if self._signal is not None and self._failure is None:
            are_all_saved = returncodes == [PREEMPTED_STATUS] * self._num_workers
            return Outcome(stop_signal=self._signal, not_ended=not_ended, all_saved=are_all_saved)
        failure = self._failure or self._late_failure()
        return Outcome(first_failure=failure, stop_signal=self._signal, not_ended=not_ended)

    def _late_failure(self) -> WorkerFailure | None:
        """Returns the failure that the end of mpiexec shows."""
        tasks, reports = self._tasks(), self._output.reports.ends
        if any(task.returncode for task in tasks):
            return at_fault(tasks, is_late=True)
        missing = [f"worker {rank}" for rank in range(self._num_workers) if rank not in reports]
        status = self._process.returncode or 0
        if not status and not missing:
            return None
        why = f"no report of {', '.join(missing[:8])}" if missing else "its workers succeeded"
        seconds = time.monotonic() - self._began
        return WorkerFailure(0, status or 1, seconds, task="mpiexec", why=why)

    def _tasks(self) -> list[Task]:
        reports = self._output.reports.ends
        return [reported_task(rank, reports.get(rank)) for rank in range(self._num_workers)]


class OutputOfWorkers(SharedOutput):
    """Sorts what mpiexec prints: the output of the workers, their reports, and its own words.

    Its own words go to standard error.

    Args:
        output: Receives the lines of the workers.
        events: Receives `WorkerExited` for each report.

    Attributes:
        reports: The reports of this start.
        is_over: Whether mpiexec is ended after all workers, so that its words do not count.
    """

    def __init__(self, output: SharedOutput, events: Events) -> None:
        self._output = output
        self._events = events
        self.begin("")

    def begin(self, start: str) -> None:
        """Forgets the reports of an earlier start.

        Args:
            start: The name of the next one in its reports.
        """
        self.reports = Reports(start)
        self.is_over = False

    def write(self, data: bytes) -> None:
        """Sorts whole lines."""
        data, ends = self.reports.take(data)
        for report in ends:
            self._events.put(WorkerExited(report.rank, report.returncode, time.monotonic()))
        of_workers = []
        for line in data.splitlines(keepends=True):
            if line.startswith(b"[worker "):
                of_workers.append(line)
            elif line.strip() and not self.is_over:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(line.decode(errors="replace"))
        if of_workers:
            self._output.write(b"".join(of_workers))
