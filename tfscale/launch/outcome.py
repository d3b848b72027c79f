"""How a launched job ended."""

from __future__ import annotations

import signal
from dataclasses import dataclass

# Of a worker that was told to go and has saved, with all others, what a restart goes on from. The
# number is TensorFlow's (tf.distribute.experimental.PreemptionCheckpointHandler).
PREEMPTED_STATUS = 42


@dataclass(frozen=True)
class WorkerFailure:
    """The end of a worker that did not end well.

    Attributes:
        worker: Index of the worker; its position among all tasks where there is a chief.
        returncode: As `subprocess` has it: the exit status, or minus the signal's number.
        seconds: From the worker's start to its end.
        task: Its name where not all tasks are workers: "chief", "worker 0", "ps 0".
        why: What it said of the cause itself, in a line, or else what the witness said.
        witness: The task that ended because of it, where the worker itself did not: `returncode`
            and `seconds` are then the witness's.
    """

    worker: int
    returncode: int
    seconds: float
    task: str = ""
    why: str = ""
    witness: str = ""

    @property
    def preempted(self) -> bool:
        """Whether the worker says that it was told to go and that all is saved."""
        return self.returncode == PREEMPTED_STATUS

    @property
    def status(self) -> int:
        """The exit status a shell would show: 128 + s for a worker killed by signal s."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode

    @property
    def how(self) -> str:
        """How the worker ended, in words."""
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
    """How a launched job ended: its last start, where there were restarts.

    At most one of `first_failure` and `output_error` is set: what ended the job. Where neither is,
    `stop_signal` did, or every worker succeeded.

    Attributes:
        first_failure: The failure that ended the job: of the worker at fault, as far as is known,
            which need not be the first that ended.
        stop_signal: The first signal to the launcher; beside another cause, it came after that.
        output_error: Why the workers' output could not be passed on, which ended the job.
        not_ended: Workers that were still there half a minute after SIGKILL: the kernel holds
            them, for instance in a dead network file system.
        all_saved: What was saved is complete: every worker answered `stop_signal` with status 42,
            or had been preempted before and was not yet started again.
        restarts: How often the job was started again, counted or free.
        not_restarted: Why there was not one restart more, where restarts were asked for.
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
        """Exit status of the job: 0 when every worker succeeded, else that of the first cause.

        After a signal to the launcher it is 128 + the signal's number, or 42 with `all_saved`, by
        which a scheduler knows that it may start the job again.
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
    """The signal's name, or `signal <number>` for one without (the real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
