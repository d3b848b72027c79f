"""The outcome of a launched job, and which worker is at fault if several fail.

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

# Exit status of a preempted worker after all workers have saved a checkpoint to resume from. The
# number is TensorFlow's (tf.distribute.experimental.PreemptionCheckpointHandler).
PREEMPTED_STATUS = 42


@dataclass(frozen=True)
class WorkerFailure:
    """The failure of a worker.

    Attributes:
        worker: Index of the worker; with a chief, its position among all tasks.
        returncode: As in `subprocess`: the exit status, or minus the signal's number.
        seconds: Seconds from the worker's start to its end.
        task: Its name if not all tasks are workers: "chief", "worker 0", "ps 0".
        why: The cause in one line, as the worker wrote it, or else as the witness did.
        witness: The task that ended because of this worker, if the worker itself had not ended.
            `returncode` and `seconds` are then the witness's.
    """

    worker: int
    returncode: int
    seconds: float
    task: str = ""
    why: str = ""
    witness: str = ""

    @property
    def preempted(self) -> bool:
        """Whether the worker reported that it was preempted and that all is saved."""
        return self.returncode == PREEMPTED_STATUS

    @property
    def status(self) -> int:
        """The exit status a shell would show: 128 + s for a worker killed by signal s."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode

    @property
    def how(self) -> str:
        """How the worker ended, as text."""
        how = (
            f"exit status {self.returncode}"
            if self.returncode >= 0
            else f"killed by {signal_name(-self.returncode)}"
        )
        return f"{how} after {self.seconds:.1f} s"

    def sentence(self, verb: str = "failed first", *, with_why: bool = True) -> str:
        """Returns which worker ended, and how.

        Args:
            verb: What the worker did, unless it was preempted.
            with_why: Whether to add the cause, which may be long.
        """
        why = self.why if self.why.endswith("...") else self.why.removesuffix(".")
        why = f" ({why})" if why and with_why else ""
        task = self.task or f"worker {self.worker}"
        if self.witness:
            return (
                f"{task} {verb}: {self.witness} ended because of it{why}, {self.how}, before it did"
            )
        if self.preempted:
            return f"{task} was preempted, all saved ({self.how}){why}"
        return f"{task} {verb}: {self.how}{why}"

    def __str__(self) -> str:
        return self.sentence()


@dataclass(frozen=True)
class Outcome:
    """How a launched job ended. After restarts this describes the last start.

    At most one of `first_failure` and `output_error` is set, and it is what ended the job. If
    neither is set, `stop_signal` ended the job, or every worker succeeded.

    Attributes:
        first_failure: The failure that ended the job. It is that of the worker at fault, as far as
            known, which is not always the first worker that ended.
        stop_signal: The first signal to the launcher. With another cause, it came after that.
        output_error: Why the workers' output could not be passed on, if that ended the job.
        not_ended: Workers that still existed half a minute after SIGKILL, for instance blocked in
            a dead network file system.
        all_saved: Whether everything was saved: every worker reacted to `stop_signal` with status
            42, or had been preempted and not yet restarted.
        restarts: Number of restarts, including free ones.
        not_restarted: Why there was no further restart, if restarts were requested.
        stopped_by: What `stop_signal` stands for, if no one has sent it.
    """

    first_failure: WorkerFailure | None = None
    stop_signal: int | None = None
    output_error: str | None = None
    not_ended: tuple[int, ...] = ()
    all_saved: bool = False
    restarts: int = 0
    not_restarted: str | None = None
    stopped_by: str = ""

    @property
    def status(self) -> int:
        """Exit status of the job: 0 if every worker succeeded, else the status of the first cause.

        After a signal to the launcher it is 128 + the signal's number, or 42 with `all_saved`,
        which tells a scheduler that it may restart the job.
        """
        if self.first_failure is not None:
            return self.first_failure.status
        if self.output_error is not None:
            return 1
        if self.stop_signal is not None:
            return PREEMPTED_STATUS if self.all_saved else 128 + self.stop_signal
        return 1 if self.not_ended else 0

    def __str__(self) -> str:
        if self.first_failure is not None:
            sentence = f"{self.first_failure}; the whole job was ended"
        elif self.output_error is not None:
            sentence = f"output cannot be written ({self.output_error}); the whole job was ended"
        elif self.stop_signal is not None:
            cause = self.stopped_by or f"{signal_name(self.stop_signal)} received"
            sentence = f"{cause}; the whole job was ended"
            if self.all_saved:
                sentence += ", all saved before"
        else:
            sentence = "every worker succeeded"
        if self.not_ended:
            sentence += f", but SIGKILL did not end workers {list(self.not_ended)}"
        if self.not_restarted is not None:
            sentence += f"; not restarted: {self.not_restarted}"
        return sentence


def signal_name(number: int) -> str:
    """Returns the signal's name, or `signal <number>` for real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
    own = next((task for task in failed if is_own(task)), None)
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


def is_own(task: Task) -> bool:
    """Returns whether a task that has failed did so independently of the others."""
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
