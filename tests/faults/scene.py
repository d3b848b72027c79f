"""Where a fault happens: a training of two workers, and the same training undisturbed."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fault import Report
from tests.faults.job import INJECT, Job, launcher
from tests.faults.lines import RESTART_LINE, STEP_LINE
from tests.faults.notes import differences
from tests.faults.timeline import lost, names, noticed, notices, recovered
from tests.faults.traces import end_all, files, listening, processes
from tests.faults.training import Training

FAULT_STEP = 20
"""Steps before the fault: in the third of eight epochs."""
PACE_SECONDS = 0.1
CASE_SECONDS = 400.0
"""Deadline of a job, from its fault on."""
GONE_SECONDS = 5.0
WATCHDOG_SECONDS = 60.0
NOTICE_LINES = 3
Disturb = Callable[[Job], object]
"""Returns False if it could not be done."""


@dataclass(frozen=True)
class Scene:
    """The place of one case.

    Attributes:
        folder: Empty.
        control: The undisturbed run, which has ended.
    """

    folder: Path
    control: Training

    @property
    def training(self) -> Training:
        """The training that is disturbed."""
        folder = self.folder / "run"
        folder.mkdir(exist_ok=True)
        return dataclasses.replace(self.control, folder=str(folder), pace_seconds=PACE_SECONDS)

    @property
    def watched_training(self) -> Training:
        """The same with a Watchdog, which reports a stall and ends the job after its deadline."""
        return dataclasses.replace(self.training, watchdog_seconds=WATCHDOG_SECONDS)

    def injecting(self, kind: str) -> Training:
        """The training whose workers do one of `injections` to themselves, after a signal."""
        return dataclasses.replace(self.training, injected=kind)

    def injected(self, kind: str) -> Report:
        """Makes worker 1 do one of `injections` to itself; the job restarts. See `disturbed`."""
        return self.disturbed(
            lambda job: job.signal(1, INJECT), culprit=1, training=self.injecting(kind)
        )

    def job(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, mark: str = ""
    ) -> Job:
        """Starts a command of this case; its temporary files are searched for at the end.

        Args:
            command: What to run.
            environment: Additional variables.
            mark: Of the job, if this case has another one.
        """
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        variables = {"TMPDIR": str(temporary), **(environment or {})}
        return Job(command, mark or str(self.folder), variables)

    def disturbed(
        self,
        disturb: Disturb,
        *,
        culprit: int,
        training: Training | None = None,
        restarts: int = 1,
    ) -> Report:
        """Disturbs a job of two workers in a step, and waits until it has ended.

        Args:
            disturb: The fault.
            culprit: The worker that must be named if the job restarts.
            training: What is trained; None for the usual.
            restarts: How often the launcher must start the job again.
        """
        training = training or self.training
        with self.job(launcher(training)) as job:
            job.await_line(rf"{STEP_LINE}{FAULT_STEP}$")
            at = time.monotonic()
            if disturb(job) is False:
                raise OSError("the worker of the fault did not exist")
            status = job.wait(CASE_SECONDS)
            return self.report([job], at, status, culprit, training, restarts)

    def report(
        self,
        jobs: Sequence[Job],
        at: float,
        status: int | None,
        culprit: int,
        training: Training,
        restarts: int | None,
        earlier: Sequence[Training] = (),
    ) -> Report:
        """Judges a job that should have ended normally.

        Args:
            jobs: Its launchers, one per host.
            at: When the fault happened.
            status: The exit status, or None if it hung.
            culprit: The worker that must be named if the job restarts.
            training: What it trained.
            restarts: How often it must have restarted; None for any number.
            earlier: Attempts of this training by earlier jobs.
        """
        lines = sorted((line for job in jobs for line in job.lines), key=lambda line: line.at)
        left = self.left_over(set().union(*(job.ports() for job in jobs)))
        if status != 0:
            why = "; ".join(notices(lines, at)[-NOTICE_LINES:])
            trouble = [f"it hung: {why}" if status is None else f"status {status}: {why}"]
            return Report(noticed(lines, at), left_over=left, trouble=tuple(trouble))
        starts = sum(bool(re.search(RESTART_LINE, line.text)) for line in lines) // len(jobs)
        last = dataclasses.replace(training, attempt=starts)
        attempts = [dataclasses.replace(training, attempt=i) for i in range(starts)]
        wrong = differences([*earlier, *attempts, last], self.control, 0.0)
        who = names(lines, at, culprit)
        again = lost(lines)
        trouble = list(wrong)
        if restarts not in (None, starts):
            why = "; ".join(notices(lines, at)[:NOTICE_LINES])
            trouble.append(f"{starts} restarts, not {restarts}: {why}")
        if restarts and not who:
            trouble.append(f"no line names worker {culprit}")
        # A checkpoint is written while training goes on, up to the next one.
        if again > 2 * training.every:
            trouble.append(f"{again} steps lost, at most {2 * training.every} are right")
        if left:
            trouble.append(f"left over: {', '.join(left)}")
        return Report(
            noticed(lines, at),
            who,
            again,
            recovered(lines, at) if restarts else None,
            not wrong,
            left,
            tuple(trouble),
        )

    def left_over(self, ports: set[int], mark: str = "") -> tuple[str, ...]:
        """Returns what a job that has ended left: processes, ports, files.

        Args:
            ports: That it may have listened on.
            mark: Of the job, if it has another one than this case.
        """
        mark = mark or str(self.folder)
        deadline = time.monotonic() + GONE_SECONDS  # the launcher's orphan guard ends last
        while processes(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        found = [f"process {process}" for process in end_all(mark)]
        found += [f"port {port}" for port in listening(ports)]
        return (*found, *files(self.folder))
