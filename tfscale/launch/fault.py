"""Finds the worker at fault if several fail: the one that the others name, not the first to exit.

If a worker fails, the workers that wait for it fail too, and often end before it does. So the order
of exits is no evidence. Evidence is a signal that the launcher did not send, and the exit reasons
that processes wrote (`strategies.cluster.exit_reason`). A process that ended with a status and
without an exit reason is taken to be at fault itself.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from strategies.extension import ExitReason
from tfscale.launch.outcome import WorkerFailure

JUDGE_SECONDS = 3.0
"""How long the other workers have to end or to write an exit reason if the first one that ended
does not seem to be at fault."""

_AMBIGUOUS = (-signal.SIGABRT, -signal.SIGALRM)
"""TensorFlow aborts a process that has lost its cluster. `strategies` ends a process by SIGALRM if
worker 0 does not respond."""


@dataclass(frozen=True)
class Task:
    """A process of a job, as the launcher knows it.

    Attributes:
        worker: Index of the process.
        name: Its name, such as "worker 1".
        started: When it started, on the clock of `time.monotonic`.
        returncode: As in `subprocess`; None while it runs.
        ended: When it ended, on the same clock; None while it runs.
        exit_reason: The exit reason that it wrote, or None.
        task: Its name if not all tasks are workers; see `WorkerFailure`.
    """

    worker: int
    name: str
    started: float
    returncode: int | None
    ended: float | None
    exit_reason: ExitReason | None
    task: str = ""


def at_fault(tasks: Sequence[Task], is_late: bool) -> WorkerFailure | None:
    """Returns the failure that caused the others, or None if it is not known yet.

    Args:
        tasks: The tasks of this launcher. At least one of them has failed.
        is_late: Whether the waiting time is over, so that a failure must be returned.
    """
    failed = sorted((t for t in tasks if t.returncode), key=lambda task: task.ended or 0.0)
    own = next((task for task in failed if _is_own(task)), None)
    if own is not None:
        return _failure(own)
    first = failed[0]
    reasons = [task.exit_reason for task in failed if task.exit_reason is not None]
    named = [reason.at_fault for reason in reasons if reason.at_fault]
    suspects = [task for name in named for task in tasks if task.name == name]
    for task in suspects:
        if task in failed:
            return _failure(task)
    if not is_late:
        return None
    return _failure(first, of=suspects[0]) if suspects else _failure(first)


def _is_own(task: Task) -> bool:
    if task.exit_reason is not None:
        return task.exit_reason.is_own
    return task.returncode not in _AMBIGUOUS


def _failure(task: Task, of: Task | None = None) -> WorkerFailure:
    """Returns the failure of a task, or of a running task `of` that this task names."""
    assert task.returncode is not None
    assert task.ended is not None
    culprit = of or task
    reason = task.exit_reason
    if culprit.exit_reason is not None and culprit.exit_reason.is_own:
        reason = culprit.exit_reason
    return WorkerFailure(
        worker=culprit.worker,
        returncode=task.returncode,
        seconds=task.ended - task.started,
        task=culprit.task,
        why=reason.why if reason else "",
        witness=task.name if of else "",
    )
