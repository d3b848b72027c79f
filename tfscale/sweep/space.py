"""The flags that a sweep varies, and their ranges.

axis = parsed("log", "learning_rate=1e-4..1e-1")
axis.distribution()                             # of optuna
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfscale.cli import floats, integers

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RESERVED = ("folder",)
_EXAMPLES = {
    "float": "dropout=0.1..0.5",
    "log": "learning_rate=1e-4..1e-1",
    "int": "units=16..128 or units=16..128:16",
    "log_int": "units=16..1024",
    "choice": "optimizer=sgd,adam",
}
KINDS = tuple(_EXAMPLES)
LARGEST = 2**53
"""Whole numbers beyond it are not exact in optuna, which computes with float64."""
MOST_POINTS = 100_000
"""Of a grid, of which optuna lists all."""
_NUMBER = floats("a finite number", "0.1", lambda value: True)
_WHOLE = integers(-LARGEST, below=LARGEST + 1)


@dataclass(frozen=True)
class Axis:
    """A flag that a sweep varies.

    Attributes:
        kind: One of `KINDS`.
        name: Of the flag, without dashes.
        low: Least value; None for a choice.
        high: Largest value, included; None for a choice.
        step: Between two values of an "int".
        choices: Of a "choice".
    """

    kind: str
    name: str
    low: float | None = None
    high: float | None = None
    step: int = 1
    choices: tuple[str, ...] = ()

    def distribution(self) -> Any:
        """Returns the distribution of optuna."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.choices)
        assert self.low is not None
        assert self.high is not None
        if self.kind in ("int", "log_int"):
            is_log = self.kind == "log_int"
            return distributions.IntDistribution(
                int(self.low), int(self.high), log=is_log, step=self.step
            )
        return distributions.FloatDistribution(self.low, self.high, log=self.kind == "log")

    def values(self) -> list[Any]:
        """Returns all values, for a grid.

        Raises:
            ValueError: If they are not countable, or not evenly spaced.
        """
        if self.kind == "choice":
            return list(self.choices)
        if self.kind != "int":
            raise ValueError(
                "`--sampler=grid` must come with --choice and --int only. Received: "
                f"--{self.kind} {self.name}={self.low:g}..{self.high:g}. Write "
                f"--choice {self.name}=A,B,C."
            )
        assert self.low is not None
        assert self.high is not None
        values = range(int(self.low), int(self.high) + 1, self.step)
        if len(values) > MOST_POINTS:
            raise ValueError(
                f"`--sampler=grid` must come with flags of at most {MOST_POINTS:,} values. "
                f"Received: {self}, which has {len(values):,}. Pass a larger STEP: "
                f"--int {_EXAMPLES['int'].split()[-1]}."
            )
        return list(values)

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"--choice {self.name}={','.join(self.choices)}"
        step = f":{self.step}" if self.step != 1 else ""
        return f"--{self.kind} {self.name}={self.low!r}..{self.high!r}{step}"


def parsed(kind: str, text: str) -> Axis:
    """Returns an axis from the value of its flag.

    Args:
        kind: One of `KINDS`.
        text: NAME=LOW..HIGH, for "int" also NAME=LOW..HIGH:STEP, for "choice" NAME=A,B,C.

    Raises:
        ValueError: If it is malformed. The message has no subject, for argparse.

    Example:
        >>> parsed("choice", "optimizer=sgd,adam").choices
        ('sgd', 'adam')
        >>> str(parsed("log", "learning_rate=1e-4..0.1"))
        '--log learning_rate=0.0001..0.1'
    """
    name, _, values = text.partition("=")
    name = name.removeprefix("--")
    if not _NAME.fullmatch(name) or not values or name in _RESERVED:
        raise _wrong(kind, text, "NAME=" + ("A,B,C" if kind == "choice" else "LOW..HIGH"))
    if kind == "choice":
        choices = tuple(values.split(","))
        if len(set(choices)) != len(choices) or len(choices) < 2:
            raise _wrong(kind, text, "NAME=A,B,C with at least two values, all different")
        return Axis(kind, name, choices=choices)
    is_int = kind in ("int", "log_int")
    values, colon, step_text = values.partition(":") if kind == "int" else (values, "", "")
    ends = values.split("..")
    try:
        if len(ends) != 2:
            raise ValueError
        low, high = (_WHOLE.parse(end) if is_int else _NUMBER.parse(end) for end in ends)
        step = _WHOLE.parse(step_text) if colon else 1
    except ValueError:
        whole = "two whole numbers between -2**53 and 2**53"
        rule = "NAME=LOW..HIGH with " + (whole if is_int else "two finite numbers")
        raise _wrong(kind, text, rule) from None
    if not (low < high and math.isfinite(high - low)):
        raise _wrong(kind, text, "NAME=LOW..HIGH with LOW below HIGH, and a finite difference")
    if kind.startswith("log") and low <= 0:
        raise _wrong(kind, text, "NAME=LOW..HIGH with LOW above 0")
    if kind == "int" and (step < 1 or (high - low) % step):
        raise _wrong(kind, text, "NAME=LOW..HIGH:STEP with a positive STEP that leads to HIGH")
    return Axis(kind, name, low, high, step)


def refuse_twice(space: Sequence[Axis]) -> None:
    """Refuses a flag that is varied twice, and a sweep that varies none.

    Raises:
        ValueError: If so.
    """
    if not space:
        flags = ", ".join(f"--{kind}" for kind in KINDS)
        raise ValueError(
            f"At least one of {flags} must be given. Received: none. Example: --log "
            f"{_EXAMPLES['log']}."
        )
    names = [axis.name for axis in space]
    for axis in space:
        if names.count(axis.name) > 1:
            raise ValueError(
                f"`--{axis.kind}` must vary each flag once. Received: {axis.name} twice. Leave one "
                "out."
            )


def _wrong(kind: str, text: str, rule: str) -> ValueError:
    return ValueError(f"must be {rule}. Received: {text!r}. Example: --{kind} {_EXAMPLES[kind]}")
