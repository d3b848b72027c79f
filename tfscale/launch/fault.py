"""Which worker is at fault where several fail: the one the others name, not the first to exit.

Where a worker fails, those that wait for it fail too, and often end before it does. So the order of
exits does not tell. What tells: a signal that the launcher did not send, and what processes left as
`strategies.cluster.exit_reason`. A process that left nothing and ended with a status failed by
itself.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from strategies.extension import ExitReason
from tfscale.launch.outcome import WorkerFailure

JUDGE_SECONDS = 3.0
"""How long the others of a job have to end, or to say why, when the first one that ended is not at
fault by what is known."""

_AMBIGUOUS = (-signal.SIGABRT, -signal.SIGALRM)
"""TensorFlow aborts a process whose cluster is gone, and `strategies` ends one by SIGALRM whose
first worker does not answer."""


@dataclass(frozen=True)
class Task:
    """A process of a job, as far as the launcher knows.

    Attributes:
        worker: Index of the process.
        name: Such as "worker 1".
        started: On the clock of `time.monotonic`.
        returncode: As `subprocess` has it; None while it runs.
        ended: When it ended, on the same clock; None while it runs.
        words: What it left, if it did.
        task: Its name where not all tasks are workers; see `WorkerFailure`.
    """

    worker: int
    name: str
    started: float
    returncode: int | None
    ended: float | None
    words: ExitReason | None
    task: str = ""


def at_fault(tasks: Sequence[Task], is_late: bool) -> WorkerFailure | None:
    """Returns the failure that the others follow, or None where more should be waited for.

    Args:
        tasks: Of this launcher, one of which at least has ended with a failure.
        is_late: Whether nothing more is waited for.
    """
    failed = sorted((t for t in tasks if t.returncode), key=lambda task: task.ended or 0.0)
    own = next((task for task in failed if _is_own(task)), None)
    if own is not None:
        return _failure(own)
    first = failed[0]
    named = [task.words.at_fault for task in failed if task.words and task.words.at_fault]
    suspects = [task for name in named for task in tasks if task.name == name]
    for task in suspects:
        if task in failed:
            return _failure(task)
    if not is_late:
        return None
    return _failure(first, of=suspects[0]) if suspects else _failure(first)


def _is_own(task: Task) -> bool:
    if task.words is not None:
        return task.words.is_own
    return task.returncode not in _AMBIGUOUS


def _failure(task: Task, of: Task | None = None) -> WorkerFailure:
    """Returns the failure of a task, or of another that has not ended, by this one's word."""
    assert task.returncode is not None
    assert task.ended is not None
    culprit = of or task
    words = culprit.words if culprit.words and culprit.words.is_own else task.words
    return WorkerFailure(
        worker=culprit.worker,
        returncode=task.returncode,
        seconds=task.ended - task.started,
        task=culprit.task,
        why=words.why if words else "",
        witness=task.name if of else "",
    )
