"""The outcome of a launched job."""

from __future__ import annotations

import signal
from dataclasses import dataclass

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
        if self.preempted:
            how += " (preempted, all saved)"
        return f"{how} after {self.seconds:.1f} s"

    def __str__(self) -> str:
        why = f" ({self.why.rstrip('.')})" if self.why else ""
        task = self.task or f"worker {self.worker}"
        if self.witness:
            return (
                f"{task} failed first: {self.witness} ended because of it{why}, {self.how}, "
                "before it did"
            )
        return f"{task} failed first: {self.how}{why}"


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
    """

    first_failure: WorkerFailure | None = None
    stop_signal: int | None = None
    output_error: str | None = None
    not_ended: tuple[int, ...] = ()
    all_saved: bool = False
    restarts: int = 0
    not_restarted: str | None = None

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
            sentence = f"{signal_name(self.stop_signal)} received; the whole job was ended"
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
