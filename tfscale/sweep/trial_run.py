"""One trial of a sweep: its process, its files, and what it reports."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfscale.launch.events import Events
from tfscale.launch.worker_process import WorkerProcess
from tfscale.sweep.plan import Plan
from tfscale.sweep.reports import VARIABLE, Reports

OUTPUT_FILE, REPORTS_FILE = "output.log", "reports.jsonl"
_LAST_LINES = 5
_TAIL = 1 << 14
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")


class TrialRun:
    """Starts a trial, and sees what becomes of it.

    Args:
        plan: The sweep.
        trial: The `optuna.Trial`.
        slot: Which of the trials that run at once it is.
        devices: Variables that give it its devices.
        events: Receives the end of its process.

    Attributes:
        trial: The `optuna.Trial`.
        slot: As given.
        process: Its process.
        is_pruned: Whether it was stopped for its values.
        problem: Why it failed; "" if it has not.

    Raises:
        OSError: If its folder cannot be written.
    """

    def __init__(
        self, plan: Plan, trial: Any, slot: int, devices: Mapping[str, str], events: Events
    ) -> None:
        self.trial, self.slot = trial, slot
        self.is_pruned = False
        self.problem = ""
        self._plan = plan
        self._folder = plan.trial_folder(trial.number)
        self._folder.mkdir(exist_ok=True)
        reports = (self._folder / REPORTS_FILE).absolute()
        _end_line(reports)
        self._reports = Reports(reports, plan.goal)
        # Of an interrupted trial: what it has reported counts, and it may continue behind it.
        self._known = set(_known_steps(trial))
        command = plan.process_command(trial.params, self._folder)
        environment = {**os.environ, **devices, VARIABLE: str(reports)}
        environment.setdefault("PYTHONUNBUFFERED", "1")
        with (self._folder / OUTPUT_FILE).open("ab") as output:
            self.process = WorkerProcess(
                trial.number, command, environment, output.fileno(), events
            )

    @property
    def seconds(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.process.started

    def look(self) -> None:
        """Reads its reports; stops it if it is not worth its time, or takes too long."""
        self._read()
        if self.seconds > self._plan.trial_seconds and not (self.problem or self.is_pruned):
            self.problem = f"it has not ended within --trial_seconds={self._plan.trial_seconds:g}"
            self.stop(signal.SIGTERM)

    def stop(self, number: int) -> None:
        """Sends a signal, and SIGKILL after the grace period."""
        self.process.stop(number, time.monotonic() + self._plan.kill_seconds)

    def result(self) -> tuple[str, float | None, dict[str, Any]]:
        """Returns the state, the value and notes of a trial that has ended."""
        self._read()
        value, status = self._reports.value, self.process.returncode
        notes = {"seconds": self.seconds, "last_step": max(self._reports.steps, default=None)}
        if self.is_pruned:
            return "pruned", None, {**notes, "last_value": value}
        if not self.problem and status != 0:
            self.problem = f"{_ending(status)}: {self._last_lines()}"
        if not self.problem and value is None:
            names = ", ".join(self._reports.names) or "nothing"
            if self._reports.has_open_line:
                names += " and a line without a newline at its end, which does not count"
            self.problem = (
                f"it has not reported {self._plan.goal!r}, but {names}. Report it by "
                "tfscale.callbacks.ReportTrial() or tfscale.sweep.report_trial"
            )
        if not self.problem and value is not None and not math.isfinite(value):
            self.problem = f"{self._plan.goal} is {'NaN' if value != value else value}"
        if self.problem:
            return "failed", None, {**notes, "error": self.problem}
        return "complete", value, notes

    def _read(self) -> None:
        if self.problem or self.is_pruned:
            return
        try:
            new_steps = self._reports.new_steps()
        except (ValueError, OSError) as error:
            self.problem = str(error)
            self.stop(signal.SIGTERM)
            return
        for step, value in new_steps:
            if step in self._known:
                continue
            self.trial.report(value, step)
            if self.trial.should_prune():
                self.is_pruned = True
                self.stop(signal.SIGTERM)
                return

    def _last_lines(self) -> str:
        with (self._folder / OUTPUT_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
        written = [line.strip() for line in lines if line.strip()]
        shown = " | ".join(written[-_LAST_LINES:])[-1000:] or "it has printed nothing"
        return _ESCAPES.sub("", shown)  # colours, and what would move the cursor


def _known_steps(trial: Any) -> list[int]:
    """Returns the steps that a trial has reported to its study."""
    (frozen,) = (
        each for each in trial.study.get_trials(deepcopy=False) if each.number == trial.number
    )
    return list(frozen.intermediate_values)


def _end_line(path: Path) -> None:
    """Ends a line that a killed process has begun, by removing it."""
    with contextlib.suppress(FileNotFoundError):
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
