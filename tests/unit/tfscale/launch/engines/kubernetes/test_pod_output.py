"""The program that runs a command in a pod and keeps its output."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.programs import completed, started

MODULE = ("-m", "tfscale.launch.engines.kubernetes.pod_output")


@pytest.mark.parametrize(("end", "status"), [("exit 42", 42), ("kill -TERM $$", 143)])
def test_the_status_is_that_of_the_command_and_its_output_is_appended(
    tmp_path: Path, end: str, status: int
) -> None:
    log = tmp_path / "logs" / "worker-0.attempt-0.log"
    log.parent.mkdir()
    log.write_text("of an earlier pod\n")
    script = f"echo out; echo err >&2; {end}"
    done = completed(*MODULE, str(log), "--", "sh", "-c", script, timeout=60)
    assert (done.returncode, done.stdout) == (status, "out\nerr\n")
    assert log.read_text() == "of an earlier pod\nout\nerr\n"


def test_a_signal_reaches_the_command_which_can_still_print(tmp_path: Path) -> None:
    script = "trap 'echo saved; exit 42' TERM; echo ready; while :; do sleep 0.05; done"
    process = started(*MODULE, str(tmp_path / "new" / "log"), "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "saved\n"
    assert process.wait(120) == 42
    assert (tmp_path / "new" / "log").read_text() == "ready\nsaved\n"


@pytest.mark.thorough
def test_what_the_command_left_running_does_not_hold_the_pod(tmp_path: Path) -> None:
    script = "sleep 600 & echo done"
    done = completed(*MODULE, str(tmp_path / "log"), "--", "sh", "-c", f"{script} >&1", timeout=50)
    assert done.returncode == 0
    assert (tmp_path / "log").read_text() == "done\n"


def test_a_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    done = completed(*MODULE, str(tmp_path), "--", "echo", "never", timeout=60)
    assert done.returncode == 1
    assert "a folder, not a file" in done.stderr
