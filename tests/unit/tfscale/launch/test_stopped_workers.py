"""The launcher names workers that are stopped (SIGSTOP), and ends nothing."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until
from tfscale.launch.stopped_workers import StoppedWorkers

SECONDS = 120.0
# Prints its process id, and ends when the file that it is given exists.
WAITS = (
    "import os, pathlib, sys, time; print(os.getpid(), flush=True)\n"
    "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)"
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")


@pytest.fixture
def job(
    launch: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, Callable[[str], re.Match[str]]]]:
    """Starts a job of two workers; returns its launcher and a way to wait for its messages."""
    monkeypatch.setenv("TFSCALE_NOTICE_SECONDS", "0.5")
    path = tmp_path / "stderr"

    def started(*command: str) -> tuple[Any, Callable[[str], re.Match[str]]]:
        with path.open("wb") as errors:
            launcher = launch("--num_workers=2", "--", *command, stderr=errors)

        def said(pattern: str) -> re.Match[str]:
            found = until(
                lambda: re.search(pattern, path.read_text()), SECONDS, lambda: path.read_text()
            )
            assert found is not None
            return found

        return launcher, said

    return started


@linux
def test_stopped_workers_are_named_with_the_command_that_continues_them(
    job: Callable[..., Any], python: Callable[..., list[str]], tmp_path: Path
) -> None:
    launcher, said = job(*python(WAITS, str(tmp_path / "end")))
    workers = launcher.read_pids(2)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    found = said(
        r"tfscale launch: worker 0, worker 1: no sign of life for \d+ s, because processes "
        r"(\d+) (\d+) are stopped .*To let it go on: kill -CONT (\d+ \d+)\. To end it: Ctrl-C"
    )
    assert sorted(map(int, found.groups()[:2])) == sorted(workers)
    for process in found[3].split():
        os.kill(int(process), signal.SIGCONT)
    for worker in range(2):
        said(rf"tfscale launch: worker {worker} is no longer stopped, after \d+ s\.\n")
    (tmp_path / "end").touch()
    assert launcher.finish()[0] == 0


@linux
def test_a_stopped_process_below_a_shell_is_found_and_only_its_worker_is_named(
    job: Callable[..., Any], python: Callable[..., list[str]], tmp_path: Path
) -> None:
    # A shell that waits for the program, as `bash train.sh` does.
    launcher, said = job("sh", "-c", '"$@"; true', "sh", *python(WAITS, str(tmp_path / "end")))
    lines = launcher.read_lines(2)
    stopped = next(int(line.split()[-1]) for line in lines if line.startswith("[worker 1]"))
    os.kill(stopped, signal.SIGSTOP)
    found = said(r"tfscale launch: (.*): no sign of life for \d+ s, because process (\d+) is stop")
    assert (found[1], int(found[2])) == ("worker 1", stopped)
    launcher.process.send_signal(signal.SIGTERM)  # a stopped worker ends too
    assert launcher.finish()[0] in (128 + signal.SIGTERM, 0)


def test_notices_come_at_doubling_intervals(tmp_path: Path) -> None:
    state = tmp_path / "812" / "stat"
    state.parent.mkdir()
    lines: list[str] = []
    watch = StoppedWorkers(30.0, 0.0, lines.append, tmp_path)
    when = {}
    for now in range(0, 400, 5):
        state.write_text(f"812 (a) T b) {'T' if 10 <= now < 300 else 'S'} 1 2 3")
        watch.look(now, [("worker 0", 812)])
        if lines:
            when[now] = lines.pop()
            assert not lines
    assert list(when) == [40, 70, 130, 250, 300]
    assert when[40].startswith("worker 0: no sign of life for 30 s, because process 812 is stopped")
    assert when[250].startswith("worker 0: no sign of life for 240 s")
    assert when[300] == "worker 0 is no longer stopped, after 290 s"


def test_a_short_stop_is_not_mentioned(tmp_path: Path) -> None:
    state = tmp_path / "812" / "stat"
    state.parent.mkdir()
    lines: list[str] = []
    watch = StoppedWorkers(30.0, 0.0, lines.append, tmp_path)
    for now in range(0, 100, 5):
        state.write_text(f"812 (a) {'t' if now % 30 else 'S'} 1 2 3")
        watch.look(now, [("worker 0", 812), ("worker 1", 813)])  # worker 1 has just ended
    assert lines == []


def test_a_wrong_notice_time_is_wrong_usage(
    launch: Callable[..., Any], python: Callable[..., list[str]]
) -> None:
    flag = "--env=TFSCALE_NOTICE_SECONDS=soon"
    status, output, errors = launch("--num_workers=1", flag, "--", *python("print(1)")).finish()
    assert (status, output) == (2, "")
    assert "`TFSCALE_NOTICE_SECONDS` must be" in errors
    assert errors.count("\n") == 1
