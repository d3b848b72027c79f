"""Child processes that train cases, with a deadline for each case: a hang is an outcome."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.programs import ROOT, forked, own_environment

START_SECONDS = 180.0
"""To import TensorFlow and start a cluster, on a busy machine."""
CASE_SECONDS = 120.0
END_SECONDS = 60.0
STARTED, DONE = "parity: start ", "parity: done "

Findings = dict[str, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case in a child process.

    Attributes:
        kind: "finished", "crashed" or "hung".
        findings: The results of each worker; empty unless finished.
        detail: The end of the error or of the output, unless finished.
        seconds: How long it took.
    """

    kind: str
    findings: list[Findings] = field(default_factory=list)
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """How a child process trains its cases.

    Attributes:
        strategy: "reference", or a configuration's strategy.
        permuted: Whether rows are permuted within batches.
        stock: Whether the strategy is made by tf.distribute and Keras is not patched.
        disable: Row of the defect whose fix is left out, or "".
        case_seconds: Deadline of a case.
    """

    strategy: str
    permuted: bool = False
    stock: bool = False
    disable: str = ""
    case_seconds: float = CASE_SECONDS

    @property
    def num_workers(self) -> int:
        return int(self.strategy[-1]) if self.strategy.startswith("workers") else 1

    def command(self, cases: Path, folder: Path) -> list[str]:
        """Returns the command line of the child process."""
        runner = [*forked("-m", "tests.parity.runner", str(cases), str(folder))]
        runner = [sys.executable, *runner, f"--strategy={self.strategy}"]
        runner += ["--permuted"] if self.permuted else []
        runner += ["--stock"] if self.stock else []
        runner += [f"--disable={self.disable}"] if self.disable else []
        if not self.strategy.startswith("workers"):
            return runner
        launch = ["-m", "tfscale", "launch", f"--num_workers={self.num_workers}"]
        return [sys.executable, *launch, "--grace_seconds=1", "--", *runner]


def run_cases(
    cases: Sequence[str], task: Task, on_outcome: Callable[[str, Outcome], None] | None = None
) -> list[Outcome]:
    """Trains cases in as few child processes as crashes and hangs allow.

    Args:
        cases: Texts of configurations or scenarios.
        task: How they are trained.
        on_outcome: Called with the outcome of each case when it is known.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        left = cases[len(outcomes) :]
        with tempfile.TemporaryDirectory(prefix="parity-") as folder:
            for outcome in _run_in_one_child(left, task, Path(folder)):
                if on_outcome is not None:
                    on_outcome(cases[len(outcomes)], outcome)
                outcomes.append(outcome)
    return outcomes


def _run_in_one_child(cases: Sequence[str], task: Task, folder: Path) -> Iterator[Outcome]:
    """Yields outcomes up to and including the first crash or hang; at least one."""
    list_of_cases = folder / "cases"
    list_of_cases.write_text("\n".join(cases) + "\n", "utf-8")
    child = _Child(task.command(list_of_cases, folder), task.num_workers)
    finished = 0
    started = time.monotonic()
    try:
        while finished < len(cases):
            is_starting = child.last_started < 0
            limit = START_SECONDS if is_starting else task.case_seconds
            event = child.next_event(started + limit - time.monotonic())
            seconds = time.monotonic() - started
            if event == DONE:
                found = _findings(folder, finished, task.num_workers)
                finished += 1
                yield Outcome("finished", found, seconds=seconds)
            elif event != STARTED:
                kind = "crashed" if event == "ended" else "hung"
                yield Outcome(
                    kind, detail=_error(folder, finished) or child.tail(), seconds=seconds
                )
                return
            started = time.monotonic()
        if child.next_event(END_SECONDS) != "ended" or child.status() != 0:
            raise RuntimeError(
                "A child process must exit with 0 after its last case. Received: "
                f"{child.tail()!r} of {task}. Run it by hand."
            )
    finally:
        child.end()


def _findings(folder: Path, index: int, num_workers: int) -> list[Findings]:
    found = []
    for worker in range(num_workers):
        with np.load(folder / f"{index}.{worker}.npz") as file:
            found.append(dict(file))
    return found


def _error(folder: Path, index: int) -> str:
    errors = sorted(folder.glob(f"{index}.*.error"), key=lambda path: path.stat().st_mtime_ns)
    return errors[0].read_text("utf-8") if errors else ""


class _Child:
    """A process group and its lines, which begin with `[worker i] ` in a cluster."""

    def __init__(self, command: list[str], num_workers: int) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=own_environment(
                PYTHONUNBUFFERED="1", KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1"
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.last_started = -1
        self._workers_done: dict[int, set[str]] = {}
        self._num_workers = num_workers
        self._lines: list[str] = []
        self._arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._arrived.put(line)
        self._arrived.put(None)

    def next_event(self, seconds: float) -> str:
        """Returns STARTED, DONE (by all workers), "ended", or "deadline"."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return "deadline"
            if line is None:
                return "ended"
            self._lines.append(line)
            del self._lines[:-60]
            worker, text = "", line.rstrip("\n")
            if text.startswith("[worker "):
                worker, _, text = text.partition("] ")
            if text.startswith(STARTED) and int(text.removeprefix(STARTED)) > self.last_started:
                self.last_started = int(text.removeprefix(STARTED))
                return STARTED
            if text.startswith(DONE):
                done = self._workers_done.setdefault(int(text.removeprefix(DONE)), set())
                done.add(worker)
                if len(done) == self._num_workers:
                    return DONE

    def status(self) -> int:
        return self._process.wait(timeout=60)

    def tail(self) -> str:
        return "".join(self._lines[-25:])

    def end(self) -> None:
        """Ends the group; a launcher gets time to end its workers, which are in other groups."""
        for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 30.0)):
            if self._process.poll() is not None:
                return
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                continue
