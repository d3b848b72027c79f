"""Ctrl-C while a checkpoint is being written: it is completed or dropped, and all processes end."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults.traces import end_all, marked, processes
from tests.programs import started
from tfscale.checkpoints import CheckpointDirectory, Content, Position
from tfscale.checkpoints.tensors import Values

LAUNCH = ("-m", "tfscale", "launch", "--num_workers=2", "--grace_seconds=100", "--", sys.executable)
DEADLINE_SECONDS = 300.0
END_SECONDS = 60.0


class Job:
    """A program, or the launcher of two, that Ctrl-C interrupts."""

    def __init__(self, folder: Path, *launch: str) -> None:
        self.folder = folder
        self.lines = ""
        program = ("-m", "tests.workers.interrupted", str(folder))
        self.process = started(*launch, *program, **marked(str(folder)))
        self._deadline = threading.Timer(DEADLINE_SECONDS, end_all, [str(folder)])

    def __enter__(self) -> Job:
        self._deadline.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._deadline.cancel()
        end_all(str(self.folder))
        self.process.communicate()

    def read_until(self, pattern: str) -> None:
        """Reads lines up to the first one with a pattern."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines += line
            if re.search(pattern, line):
                return
        raise AssertionError(f"no line like {pattern!r} among:\n{self.lines[-4000:]}")

    def interrupt(self) -> None:
        """Does what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def go(self) -> None:
        """Lets the writer go on."""
        (self.folder / "go").touch()

    def status(self) -> int:
        """Returns the exit status of a job, which must end now with all its processes."""
        began = time.monotonic()
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read()
        self.process.wait()
        while processes(str(self.folder)) and time.monotonic() - began < END_SECONDS:
            time.sleep(0.05)  # the launcher's orphan guard ends last
        assert processes(str(self.folder)) == [], self.lines[-4000:]
        assert time.monotonic() - began < END_SECONDS, self.lines[-4000:]
        return self.process.returncode


def checkpoints(folder: Path) -> list[str]:
    """Returns all names in the folder of the checkpoints, complete or not."""
    return sorted(path.name for path in (folder / "run").iterdir())


def newest(folder: Path) -> int:
    content = CheckpointDirectory(folder / "run").newest()
    assert content is not None
    return content.position.batches


def test_a_process_ends_when_its_checkpoint_is_complete(tmp_path: Path) -> None:
    with Job(tmp_path) as job:
        job.read_until("^writing$")
        job.interrupt()
        job.read_until("^left$")
        assert newest(tmp_path) == 4
        job.go()
        assert job.status() == -signal.SIGINT
    assert "KeyboardInterrupt" in job.lines
    assert checkpoints(tmp_path) == ["step-000000000004", "step-000000000008"]
    assert newest(tmp_path) == 8


@pytest.mark.thorough
def test_a_second_ctrl_c_drops_the_checkpoint_being_written(tmp_path: Path) -> None:
    with Job(tmp_path) as job:
        job.read_until("^writing$")
        job.interrupt()
        job.read_until("^left$")
        job.read_until(
            "^KeyboardInterrupt"
        )  # the program has ended, and its process waits for the writer
        job.interrupt()
        assert job.status() != 0
    assert newest(tmp_path) == 4
    content = Content(Position(0, 9, 9), {}, {"w": Values(np.ones(3))}, {})
    CheckpointDirectory(tmp_path / "run").save(content)
    assert checkpoints(tmp_path) == ["step-000000000004", "step-000000000009"]


@pytest.mark.thorough
def test_two_workers_end_when_their_checkpoint_is_complete(tmp_path: Path) -> None:
    with Job(tmp_path, *LAUNCH) as job:
        job.read_until(r"^\[worker 0\] writing$")
        job.interrupt()
        job.read_until(r"^\[worker 0\] left$")
        job.go()
        assert job.status() == 128 + signal.SIGINT
    assert checkpoints(tmp_path) == ["step-000000000004", "step-000000000008"]
    assert newest(tmp_path) == 8
