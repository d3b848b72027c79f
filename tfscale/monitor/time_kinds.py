"""Where the time of a job went, with its restarts: each second is of one kind.

    good = tfscale.monitor.goodput("runs/first/monitor")
    print(good)
    good.ratio    # the part of the time in which steps computed that were not lost

It is computed from the lines of `tfscale.callbacks.Monitor`, after the job or while it runs. The
kinds are in the spirit of ml-goodput-measurement, https://github.com/AI-Hypercomputer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfscale.monitor.lines import Fit, read_fits

KINDS = (
    *("start", "restore", "compile", "input_wait", "step", "waiting_for_workers", "callbacks"),
    *("evaluation", "save", "lost_work", "stopped"),
)
"""Kinds of time. "lost_work" are steps that a later start repeats, with what belongs to them, and
the one in which a process ended, with what it waited for others there."""

_OF_PHASE = {
    "compile": "compile",
    "restore": "restore",
    "input_wait": "input_wait",
    "compute": "step",
    "communication": "waiting_for_workers",
    "callbacks": "callbacks",
    "evaluation": "evaluation",
    "checkpoint": "save",
}
_LOST = ("input_wait", "compute", "communication", "callbacks", "evaluation")


@dataclass(frozen=True)
class Goodput:
    """The time of a job, in seconds by kind.

    Attributes:
        workers: Of each worker by its index: the seconds of each of `KINDS`.
        starts: How often the job was started; 1 if nothing restarted it.
    """

    workers: dict[int, dict[str, float]]
    starts: int

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each kind, the mean of all workers."""
        count = len(self.workers)
        return {kind: sum(own[kind] for own in self.workers.values()) / count for kind in KINDS}

    @property
    def total(self) -> float:
        """From the start of the first process to the last line, the mean of all workers."""
        return sum(self.seconds.values())

    @property
    def ratio(self) -> float:
        """Effective training time: the part in which steps computed that were not lost."""
        return self.seconds["step"] / self.total if self.total > 0 else 0.0

    def __str__(self) -> str:
        """Returns a table of all kinds."""
        names = {kind: kind.replace("_", " ") for kind in KINDS}
        rows = [
            f"{names[kind]:<20}{seconds:>12.1f} s{seconds / max(self.total, 1e-9):>8.1%}"
            for kind, seconds in self.seconds.items()
        ]
        title = f"{self.total:.1f} s, starts: {self.starts}, workers: {len(self.workers)}"
        return "\n".join([title, *rows])


def goodput(folder: str | os.PathLike[str]) -> Goodput:
    """Divides the time of a job and its restarts into kinds, from the files of Monitor.

    A process that is killed leaves a heartbeat, at most 0.1 s old. What follows it, or the end of
    the last `fit` of a process, until the start of the next one counts as stopped. So does a
    process that ended before its `fit` began.

    Args:
        folder: The folder that was passed to `tfscale.callbacks.Monitor`.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If `folder` contains no files of Monitor, or a damaged one.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> monitor = tfscale.callbacks.Monitor(folder)
        >>> history = model.fit(rows, targets, callbacks=[monitor], epochs=2, verbose=0)
        >>> good = goodput(folder)
        >>> good.seconds["lost_work"], good.starts, 0 < good.ratio < 1
        (0.0, 1, True)
    """
    fits = read_fits(Path(folder))
    starts = max(len({_process(fit) for fit in own}) for own in fits.values())
    return Goodput({worker: _kinds(own) for worker, own in fits.items()}, starts)


def _kinds(fits: Sequence[Fit]) -> dict[str, float]:
    """Returns the seconds of each kind of one worker."""
    found = dict.fromkeys(KINDS, 0.0)
    before: Fit | None = None
    for place, fit in enumerate(fits):
        # Only the next process repeats steps; a later `fit` of the same one trains another round.
        later = [each for each in fits[place + 1 :] if _process(each) != _process(fit)]
        kept = later[0].begin["position"] if later else None
        _add_beginning(found, fit, before)
        _add_windows(found, fit, kept)
        before = fit
    return found


def _add_beginning(found: dict[str, float], fit: Fit, before: Fit | None) -> None:
    """Adds the time before a `fit`, from the start of its process or the end of an earlier one."""
    begin = fit.begin
    if before is not None and _process(before) == _process(fit):
        before_fit = begin["clock"] - before.last["clock"]
    else:
        before_fit = begin["clock"] - begin["process_began"]
        if before is not None:
            found["stopped"] += max(0.0, _between(before, fit) - before_fit)
    restore = min(before_fit, begin["restore_seconds"])
    found["restore"] += restore
    found["start"] += before_fit - restore
    in_windows = sum(window["seconds"] for window in fit.windows)
    if fit.heartbeat is not None:
        for name in ("phases", "step_phases"):
            in_windows += sum(fit.heartbeat[name].values())
    # What comes before the first window: Keras's and other callbacks' beginning.
    found["start"] += max(0.0, fit.last["clock"] - begin["clock"] - in_windows)


def _add_windows(found: dict[str, float], fit: Fit, kept: int | None) -> None:
    """Adds the time of steps.

    Args:
        found: The seconds by kind, which are added to.
        fit: A call of `fit`.
        kept: The position from which a later start repeats the steps, or None.
    """
    beats = [] if fit.heartbeat is None else [fit.heartbeat]
    for window in (*fit.windows, *beats):
        lost = 0.0
        if kept is not None and window["steps"]:
            lost = min(1.0, max(0.0, (window["position"] - kept) / window["steps"]))
        elif kept is not None and window["position"] > kept:
            lost = 1.0
        _add_phases(found, window["phases"], lost)
    for beat in beats:  # the step that was not completed
        _add_phases(found, beat["step_phases"], 0.0 if kept is None else 1.0)


def _add_phases(found: dict[str, float], phases: Mapping[str, float], lost: float) -> None:
    """Adds the seconds of phases, of which a part was lost."""
    for phase, kind in _OF_PHASE.items():
        wasted = phases[phase] * lost if phase in _LOST else 0.0
        found["lost_work"] += wasted
        found[kind] += phases[phase] - wasted


def _between(before: Fit, fit: Fit) -> float:
    """Returns the seconds between the last line of a process and the first one of the next."""
    is_same_host = before.begin.get("boot") == fit.begin.get("boot") != ""
    name = "clock" if is_same_host else "time"  # that one may be set while the job runs
    return float(fit.begin[name] - before.last[name])


def _process(fit: Fit) -> tuple[Any, ...]:
    return fit.begin.get("boot"), fit.begin["process"], fit.begin["process_began"]
