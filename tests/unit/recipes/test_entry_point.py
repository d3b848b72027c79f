from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs import ROOT, own_environment
from tests.unit.recipes.conftest import Run, is_start_up

PROGRAM = "tests.unit.recipes.failing_program"


@pytest.mark.parametrize(
    ("how", "status", "line"),
    [
        ("refuse", 2, "`how` must be fine. Received: how='refuse'. Leave it out."),
        ("not yet", 2, "`how` is not possible yet. Wait."),
        ("own failure", 1, "The machine is too old. Buy another one."),
        ("disk", 1, "[Errno 2] No such file or directory: '/nosuch'"),
        ("interrupt", 130, "Interrupted."),
    ],
)
def test_what_is_foreseen_ends_with_one_line(
    run_recipe: Callable[..., Run], how: str, status: int, line: str
) -> None:
    run = run_recipe(f"--how={how}", module=PROGRAM)
    assert (run.status, run.stdout) == (status, "")
    assert run.stderr == f"failing_program.py: {line}\n"


@pytest.mark.parametrize(("how", "error"), [("bug", "JSONDecodeError"), ("key", "KeyError: 'key'")])
def test_what_nobody_foresaw_keeps_its_traceback(
    run_recipe: Callable[..., Run], how: str, error: str
) -> None:
    run = run_recipe(f"--how={how}", module=PROGRAM)
    assert run.status == 1
    assert "Traceback (most recent call last)" in run.stderr
    assert error in run.stderr.splitlines()[-1]


def test_success_is_silent_but_for_the_result(run_recipe: Callable[..., Run]) -> None:
    assert run_recipe(module=PROGRAM) == Run(0, "fine\n", "")


def test_the_lines_of_libraries_are_there_for_who_asks(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--verbosity=0", module=PROGRAM)
    assert run.status == 0
    assert "an information of a library" in run.stderr


def test_a_warning_of_tensorflow_comes_once(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--how=warn", module=PROGRAM)
    assert (run.status, run.stdout) == (0, "fine\n")
    assert run.stderr.count("a warning of TensorFlow") == 1


def test_a_program_lists_its_own_flags_only(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--help", module=PROGRAM)
    assert (run.status, run.stderr) == (0, "")
    names = re.findall(r"^  --(\S+?)(?:=|\s|$)", run.stdout, re.MULTILINE)
    assert names == ["how", "quick", "traceback", "verbosity", "help", "flagfile"]


def test_ctrl_c_in_mid_training_is_one_line_and_writes_nothing(
    data_dir: str, tmp_path: Path
) -> None:
    model_dir = tmp_path / "model"
    flags = [f"--data_dir={data_dir}", f"--model_dir={model_dir}", "--train_epochs=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes.image_classification", *flags],
        cwd=ROOT,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Python installs its handler only where SIGINT is not ignored, as it is for background
        # jobs of a shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    try:
        seen, deadline = b"", time.monotonic() + 120
        while b"Epoch 3/" not in seen:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([process.stdout], [], [], left)[0], seen
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            assert chunk, seen
            seen += chunk
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    lines = [line for line in errors.decode().splitlines() if not is_start_up(line)]
    assert lines == ["image_classification.py: Interrupted."]
    assert process.returncode == 130
    assert [*model_dir.iterdir()] == []
