"""How a worker ended that another process than the launcher supervised: of MPI, or of Ray."""

from __future__ import annotations

import time
from dataclasses import dataclass

from strategies.extension import ExitReason, read_exit_reason
from tfscale.launch.events import Events
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import Task
from tfscale.launch.supervision import SupervisedWorker, Supervision


@dataclass(frozen=True)
class EndReport:
    """How a worker ended.

    Attributes:
        rank: Its rank, which is its index.
        returncode: As in `subprocess`.
        seconds: Seconds from its start to its end.
        at: When it ended, in seconds of `time.time`.
        reason: The exit reason that it wrote, or None.
    """

    rank: int
    returncode: int
    seconds: float
    at: float
    reason: ExitReason | None


def end_of(worker: SupervisedWorker, events: Events, grace_seconds: float) -> EndReport:
    """Supervises a worker until its end, and reports it.

    Args:
        worker: The worker; the index of its process is its rank.
        events: The queue of its events. A signal in it ends the worker.
        grace_seconds: Seconds from that signal to SIGKILL. At least 0.
    """
    process = worker.process
    with OrphanGuard() as guard:
        guard.add(process.group)
        Supervision([worker], events, grace_seconds, guard).run()
        return EndReport(
            rank=process.index,
            returncode=1 if process.returncode is None else process.returncode,
            seconds=time.monotonic() - process.started,
            at=time.time(),
            reason=read_exit_reason(worker.exit_reason_file),
        )


def reported_task(rank: int, report: EndReport | None) -> Task:
    """Returns a worker as the launcher knows it from its report, or from none yet."""
    name = f"worker {rank}"
    if report is None:
        return Task(rank, name, 0.0, None, None, None)
    return Task(rank, name, report.at - report.seconds, report.returncode, report.at, report.reason)
