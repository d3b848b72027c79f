from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.unit.tfscale.data.squares_dataset_builder  # noqa: F401  (registers "squares")
from tests.programs import forked
from tfscale.data import tfds
from tfscale.data.tfds_preparation import prepare
from tfscale.data.work_lock import WorkLock

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
LINE_DEADLINE_SECONDS = 180.0
QUICK_SECONDS = 4.0
"""Of silence until a task counts as dead. A busy machine may keep a task from running for as long
as 2 s."""


class Task:
    """A process that prepares the set; its lines can be awaited, one task's or all tasks'."""

    def __init__(self, data_dir: Path, silence_seconds: float = 60.0) -> None:
        self.lines: queue.Queue[str] = queue.Queue()
        program = str(HERE / "prepare_squares.py")
        self.process = subprocess.Popen(
            [sys.executable, *forked(program, str(data_dir), str(silence_seconds))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def next_line(self) -> str:
        """Returns the next line that says something of the preparation."""
        wanted = ("generating", "waiting", "Another task", "40")
        while not (line := self.lines.get(timeout=LINE_DEADLINE_SECONDS)).startswith(wanted):
            pass
        return line

    def await_line(self, start: str) -> None:
        while not self.next_line().startswith(start):
            pass

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        return self.process.wait(timeout=LINE_DEADLINE_SECONDS)


@pytest.fixture
def tasks() -> Iterator[list[Task]]:
    """The tasks that a test starts, which end with it."""
    started: list[Task] = []
    yield started
    for task in started:
        if task.process.poll() is None:
            task.process.kill()
            task.process.wait()


def test_of_three_tasks_at_once_one_generates_and_two_wait(
    tasks: list[Task], tmp_path: Path
) -> None:
    tasks += [Task(tmp_path) for _ in range(3)]
    generating: queue.Queue[Task] = queue.Queue()
    finished: queue.Queue[Task] = queue.Queue()
    in_the_race = threading.Barrier(len(tasks) + 1, timeout=LINE_DEADLINE_SECONDS)

    def follow(task: Task) -> None:
        line = task.next_line()  # Waits or generates: had it come too late it would say "40".
        in_the_race.wait()
        while line != "40":
            if line.startswith("generating"):
                generating.put(task)
            line = task.next_line()
        finished.put(task)

    for task in tasks:
        threading.Thread(target=follow, args=(task,), daemon=True).start()
    in_the_race.wait()
    generating.get(timeout=LINE_DEADLINE_SECONDS).go_on()
    for _ in tasks:
        finished.get(timeout=LINE_DEADLINE_SECONDS)
    assert [task.end() for task in tasks] == [0, 0, 0]
    assert generating.empty()
    assert [path.name for path in (tmp_path / "squares" / "fixed").iterdir()] == ["2.3.4"]


def test_another_task_takes_over_when_the_preparer_is_killed(
    tasks: list[Task], tmp_path: Path
) -> None:
    tasks.append(Task(tmp_path, QUICK_SECONDS))
    tasks[0].await_line("generating")
    tasks.append(Task(tmp_path, QUICK_SECONDS))
    tasks[1].await_line("waiting")
    tasks[0].process.send_signal(signal.SIGKILL)
    tasks[1].await_line("generating")
    tasks[1].go_on()
    assert tasks[1].next_line() == "40"
    assert tasks[1].end() == 0
    assert not list(tmp_path.rglob("*.claim-*"))


@pytest.mark.thorough
def test_a_preparer_that_was_suspended_finds_the_work_done_and_goes_on(
    tasks: list[Task], tmp_path: Path
) -> None:
    tasks.append(Task(tmp_path, QUICK_SECONDS))
    tasks[0].await_line("generating")
    tasks[0].process.send_signal(signal.SIGSTOP)
    tasks.append(Task(tmp_path, QUICK_SECONDS))
    tasks[1].await_line("generating")
    tasks[1].go_on()
    assert tasks[1].next_line() == "40"
    tasks[0].process.send_signal(signal.SIGCONT)
    tasks[0].go_on()
    assert tasks[0].next_line().startswith("Another task prepared")
    assert tasks[0].next_line() == "40"
    assert [task.end() for task in tasks] == [0, 0]


def test_the_wait_for_a_living_preparer_ends_at_the_deadline(tmp_path: Path) -> None:
    builder = tfds.find_builder("squares/fixed", data_dir=str(tmp_path))
    lock = WorkLock(str(builder.data_path), silence_seconds=30.0)
    with (
        lock.try_acquire(),
        pytest.raises(
            TimeoutError,
            match=rf"Waited \d+ s for squares/fixed/2.3.4 in {builder.data_path}: process "
            rf"{os.getpid()} on .* \(lock file {lock.prefix}.*Pass a longer deadline_seconds",
        ),
    ):
        prepare(builder, is_preparer=True, deadline_seconds=0.0)


def test_a_wait_for_nobody_ends_at_the_deadline(tmp_path: Path) -> None:
    builder = tfds.find_builder("squares/fixed", data_dir=str(tmp_path))
    with pytest.raises(TimeoutError, match=r"no task prepares it. Pass is_preparer=True in one"):
        prepare(builder, is_preparer=False, deadline_seconds=0.0)


def test_a_task_that_does_not_prepare_reads_what_another_prepared(tmp_path: Path) -> None:
    late = tfds.find_builder("squares/fixed", data_dir=str(tmp_path))
    prepare(tfds.find_builder("squares/fixed", data_dir=str(tmp_path)), is_preparer=True)
    prepare(late, is_preparer=False, deadline_seconds=0.0)
    assert late.info.splits["test"].num_examples == 12


def test_a_generation_that_fails_raises_its_own_error_and_leaves_no_claim(tmp_path: Path) -> None:
    builder = tfds.find_builder("squares/broken", data_dir=str(tmp_path))
    with pytest.raises(RuntimeError, match="no such disc"):
        prepare(builder, is_preparer=True)
    assert not list(tmp_path.rglob("*.claim-*"))


def test_a_prepared_folder_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    builder = tfds.find_builder("squares/fixed", data_dir=str(tmp_path))
    prepare(builder, is_preparer=True)
    Path(builder.info.splits["test"].filepaths[0]).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of its 2 files, for instance squares-t"):
        prepare(builder, is_preparer=True)


def test_a_negative_deadline_is_refused(tmp_path: Path) -> None:
    builder = tfds.find_builder("squares/fixed", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"`deadline_seconds` must not be negative. Received: "):
        prepare(builder, is_preparer=True, deadline_seconds=-1.0)
