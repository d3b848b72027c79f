"""What a trial of `tfscale sweep` reports while it runs: lines of JSON in a file.

    {"step": 1, "val_loss": 0.41, "val_accuracy": 0.83}

The environment variable TFSCALE_TRIAL names the file. A line is an object of numbers; "step" is
optional, a whole number. Values with a step may end the trial early. The value of a trial is the
last one of its goal. A line is complete when its newline is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strategies.extension import whole_number

VARIABLE = "TFSCALE_TRIAL"
STEP = "step"
"""The key of a line that is no value."""
_STEPS_BELOW = 2**53  # those that a float holds


def report_trial(values: Mapping[str, float], *, step: int | None = None) -> bool:
    """Reports values to `tfscale sweep`. Does nothing outside of a trial of one.

    Call it in one process of a job.

    Args:
        values: Numbers by name, not "step"; NaN and infinity are allowed, and fail the trial if
            they are its last value.
        step: What the values belong to, such as the epochs so far. At least 0. None for a final
            result, which ends no trial early.

    Returns:
        Whether this process belongs to a trial.

    Raises:
        ValueError: If an argument is wrong.
        OSError: If the file cannot be written.

    Example:
        >>> report_trial({"val_loss": 0.3}, step=1)  # not in a trial
        False
    """
    line: dict[str, float] = {}
    if step is not None:
        line[STEP] = whole_number("step", step, at_least=0)
    if not isinstance(values, Mapping):
        raise ValueError(
            f"`values` must be a dictionary of numbers by name. Received: values={values!r}. Such "
            'as {"val_loss": 0.3}.'
        )
    for name, value in values.items():
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or not isinstance(name, str) or name in ("", STEP):
            raise ValueError(
                f'`values` must be numbers by name, other than "step". Received: {name!r}: '
                f"{value!r}. Leave it out, or pass step=."
            )
        line[name] = number
    path = os.environ.get(VARIABLE)
    if not path:
        return False
    # One write of a whole line: the reader, and another writer, never see a part of it.
    with Path(path).open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")
    return True


class Reports:
    """Reads a file of reports while it grows.

    Args:
        path: The file, which need not exist yet.
        goal: Name of the value that counts.

    Attributes:
        value: The last value of the goal; None before.
        steps: Values of the goal with a step, by step.
        names: All names that were reported, in order.
        has_open_line: Whether the file ends with a line without its newline, which does not count.
    """

    def __init__(self, path: Path, goal: str) -> None:
        self.value: float | None = None
        self.steps: dict[int, float] = {}
        self.names: dict[str, None] = {}
        self._path = path
        self._goal = goal
        self.has_open_line = False
        self._last_line = b""
        self._lines = 0
        self._place = 0

    def new_steps(self) -> list[tuple[int, float]]:
        """Reads what was added, and returns the steps of the goal that were not known.

        Raises:
            ValueError: If a line is malformed, or was replaced.
            OSError: If it is no file that can be read.
        """
        try:
            # A FIFO, whose writer may never come, is not waited for: its seek fails.
            with open(self._path, "rb", opener=_without_waiting) as file:
                file.seek(self._place - len(self._last_line))
                is_same = file.read(len(self._last_line)) == self._last_line
                added = file.read()
        except FileNotFoundError:
            return []
        if not is_same:
            raise ValueError(
                f"{self._path} must only grow. Received: another line instead of "
                f"{self._last_line[:100]!r}. Open it to append, as by open(path, 'a')."
            )
        *lines, rest = added.split(b"\n")
        self.has_open_line = bool(rest)
        if lines:
            self._last_line = lines[-1] + b"\n"
        self._place += len(added) - len(rest)
        found = []
        for line in lines:
            self._lines += 1
            values = self._parsed(line)
            step = values.pop(STEP, None)
            self.names.update(dict.fromkeys(values))
            if self._goal not in values:
                continue
            self.value = values[self._goal]
            if step is not None:
                if step not in self.steps:
                    found.append((step, self.value))
                self.steps[step] = self.value
        return found

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            # A float for each number: a whole number may have more digits than one holds.
            values = json.loads(line, parse_int=float)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict) or not all(type(v) is float for v in values.values()):
            raise self._malformed("an object of numbers", line)
        step = values.get(STEP, 0.0)
        if not (0 <= step < _STEPS_BELOW and step == int(step)):
            raise self._malformed('an object whose "step" is a whole number, 0 or more', line)
        if STEP in values:
            values[STEP] = int(step)
        return values

    def _malformed(self, rule: str, line: bytes) -> ValueError:
        return ValueError(
            f"line {self._lines} of {self._path} must be {rule}. Received: {line[:100]!r}. Write "
            'such as {"step": 1, "val_loss": 0.3}.'
        )


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
