"""Runs the trials of a sweep, some at once, until there are enough or a signal ends them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tfscale.launch.events import (
    Events,
    SignalReceived,
    WorkerExited,
    next_event,
    signals_as_events,
)
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.shares import Shares, visible_gpus
from tfscale.sweep.plan import Plan
from tfscale.sweep.study import SweepStudy
from tfscale.sweep.trial_run import TrialRun

_POLL_SECONDS = 0.1
_FIRST_FAILURES = 3


class FirstTrialsFailed(RuntimeError):
    """Raised if the first trials all fail: the command is wrong, not the values."""


def device_shares(jobs: int) -> Shares:
    """Divides the GPUs and CPUs of this process between trials that run at once.

    Args:
        jobs: How many. One gets everything.

    Raises:
        ValueError: If there are too few.
    """
    if jobs == 1:
        return Shares()
    gpus = len(visible_gpus(os.environ))
    has_affinity = sys.platform == "linux"
    cpus = len(os.sched_getaffinity(0)) if has_affinity else (os.cpu_count() or 1)
    for what, found in (("GPUs", gpus), ("CPUs", cpus)):
        if 0 < found < jobs:
            hide = " Hide the GPUs by CUDA_VISIBLE_DEVICES=-1." if what == "GPUs" else ""
            raise ValueError(
                f"`--jobs` must be at most {found}, the {what} of this process: each trial needs "
                f"one for itself. Received: --jobs={jobs}. Pass less.{hide}"
            )
    return Shares.of_host(jobs, gpus // jobs, cpus // jobs if has_affinity else None)


def run_trials(plan: Plan, study: SweepStudy, say: Callable[[str], None]) -> int | None:
    """Runs trials until there are as many as the plan says.

    Args:
        plan: The sweep.
        study: Its study.
        say: Takes lines of progress.

    Returns:
        The signal that ended the sweep; None if it has all its trials. Trials that a signal ended
        are run again when the sweep is continued.

    Raises:
        FirstTrialsFailed: If the first three trials all failed.
        ValueError: If there are too few devices.
        OSError: If the folder cannot be written.
    """
    shares = device_shares(plan.jobs)
    events: Events = _new_events()
    with signals_as_events(events), OrphanGuard() as guard:
        runs = _Runs(plan, study, shares, events, guard, say)
        try:
            return runs.to_the_end()
        finally:
            runs.kill()


def _new_events() -> Events:
    import queue

    return queue.SimpleQueue()


class _Runs:
    """The trials that run now."""

    def __init__(
        self,
        plan: Plan,
        study: SweepStudy,
        shares: Shares,
        events: Events,
        guard: OrphanGuard,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._study, self._shares = plan, study, shares
        self._events, self._guard, self._say = events, guard, say
        self._running: dict[int, TrialRun] = {}
        self._signal: int | None = None
        self._ended: list[str] = []  # states of the trials of this call, in the order of their ends

    def to_the_end(self) -> int | None:
        """Runs them all; see `run_trials`."""
        is_full = False
        while True:
            while self._signal is None and not is_full and len(self._running) < self._plan.jobs:
                is_full = not self._start()
            if not self._running:
                return self._signal
            event = next_event(self._events, time.monotonic() + self._wait_seconds())
            if isinstance(event, SignalReceived):
                self._stop_all(event.number)
            elif isinstance(event, WorkerExited) and event.worker in self._running:
                self._running[event.worker].process.returncode = event.returncode
            for run in list(self._running.values()):
                if self._signal is None:
                    run.look()
                run.process.advance(time.monotonic())
                if run.process.ended:
                    self._end(run)

    def kill(self) -> None:
        """Ends what is left, after an error."""
        for run in self._running.values():
            run.process.stop(signal.SIGKILL, time.monotonic())
            run.process.advance(time.monotonic())

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        deadlines = [run.process.next_deadline(now) for run in self._running.values()]
        due = [each - now for each in deadlines if each is not None]
        return max(0.0, min([_POLL_SECONDS, *due]))

    def _start(self) -> bool:
        """Starts the next trial. Returns whether there is one."""
        trial = self._study.next_trial(set(self._running))
        if trial is None:
            return False
        slot = min(set(range(self._plan.jobs)) - {run.slot for run in self._running.values()})
        devices = self._shares.environment("worker", slot)
        run = TrialRun(self._plan, trial, slot, devices, self._events)
        self._running[trial.number] = run
        self._guard.add(run.process.group)
        values = " ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
        self._say(f"trial {trial.number} of {self._plan.trials}: {values}")
        return True

    def _end(self, run: TrialRun) -> None:
        number = run.trial.number
        del self._running[number]
        self._guard.discard(run.process.group)
        if self._signal is not None:
            return  # it is run again when the sweep continues
        state, value, notes = run.result()
        self._study.tell(run.trial, value, state, **notes)
        self._ended.append(state)
        shown = notes.get("last_value") if value is None else value
        measured = "" if shown is None else f", {self._plan.goal}={_short(shown)}"
        step = "" if notes["last_step"] is None else f" at step {notes['last_step']}"
        if state == "pruned":
            self._say(f"trial {number} pruned{step}{measured}")
        elif state == "failed":
            self._say(f"trial {number} failed: {notes['error']}")
        else:
            self._say(f"trial {number} done{measured}")
        if self._ended == ["failed"] * _FIRST_FAILURES:
            raise FirstTrialsFailed(
                f"the first {_FIRST_FAILURES} trials all failed, the last one because "
                f"{notes['error']}. Their output is in {self._plan.folder}/trial-*/"
            )

    def _stop_all(self, number: int) -> None:
        is_second = self._signal is not None
        self._signal = self._signal or number
        if is_second:
            self._say("killing the trials")
        else:
            self._say(f"ending {len(self._running)} trials; a second Ctrl-C kills them")
        for run in self._running.values():
            if is_second:
                run.process.stop(signal.SIGKILL, time.monotonic())
            else:
                run.stop(signal.SIGTERM)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
