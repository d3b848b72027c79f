from __future__ import annotations

import json
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

from tests.programs import ROOT, forked, own_environment, prepared
from tests.unit.recipes.conftest import Run, is_start_up

PROGRAM = "tests.unit.recipes.failing_program"
OWN = ["how", "quick", "api_token", "image_key", "max_tokens"]


@pytest.mark.parametrize(
    ("how", "status", "line"),
    [
        ("refuse", 2, "`how` must be fine. Received: how='refuse'. Leave it out."),
        ("not yet", 2, "`how` is not possible yet. Wait."),
        ("own failure", 1, "The machine is too old. Buy another one."),
        ("disk", 1, "[Errno 2] No such file or directory: '/nosuch'"),
        ("interrupt", 130, "Interrupted."),
        ("interrupt a deletion", 130, "Interrupted."),
    ],
)
def test_expected_errors_end_with_one_line(
    run_recipe: Callable[..., Run], how: str, status: int, line: str
) -> None:
    run = run_recipe(f"--how={how}", module=PROGRAM)
    assert (run.status, run.stdout) == (status, "")
    assert run.stderr == f"failing_program.py: {line}\n"


@pytest.mark.parametrize(("how", "error"), [("bug", "JSONDecodeError"), ("key", "KeyError: 'key'")])
def test_unexpected_errors_keep_their_traceback(
    run_recipe: Callable[..., Run], how: str, error: str
) -> None:
    run = run_recipe(f"--how={how}", module=PROGRAM)
    assert run.status == 1
    assert "Traceback (most recent call last)" in run.stderr
    assert error in run.stderr.splitlines()[-1]


def test_success_prints_only_the_result(run_recipe: Callable[..., Run]) -> None:
    assert run_recipe(module=PROGRAM) == Run(0, "fine\n", "")


def test_log_lines_of_libraries_are_shown_on_request(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--verbosity=0", module=PROGRAM)
    assert run.status == 0
    assert "an information of a library" in run.stderr


def test_a_warning_of_tensorflow_is_printed_once(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--how=warn", module=PROGRAM)
    assert (run.status, run.stdout) == (0, "fine\n")
    assert run.stderr.count("a warning of TensorFlow") == 1


def test_help_lists_only_the_flags_of_the_program(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--help", module=PROGRAM)
    assert (run.status, run.stderr) == (0, "")
    names = re.findall(r"^  --(\S+?)(?:=|\s|$)", run.stdout, re.MULTILINE)
    assert names == [*OWN, "traceback", "verbosity", "help", "flagfile"]


@pytest.mark.parametrize("flag", ["--how=\udcff\udcfe", "--nosuch=\udcff", "\udcff"])
def test_an_argument_that_is_not_utf_8_gives_one_line_and_status_2(
    run_recipe: Callable[..., Run], flag: str
) -> None:
    run = run_recipe(flag, module=PROGRAM)
    assert (run.status, run.stdout) == (2, "")
    assert run.stderr.startswith("failing_program.py: Arguments must be UTF-8. Received: ")
    assert r"\udcff" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x04\x95pickle", "must be a text in UTF-8, one flag per line. .* byte 0x80"),
        (bytes(range(256)), "must be a text in UTF-8, one flag per line. .* byte 0x80"),
        (b"PK\x03\x04\0\0\0", "Unknown arguments: "),
        (b"--how=\0\n", "Unknown|null|fine"),
    ],
)
def test_a_binary_flag_file_gives_one_line_and_status_2(
    run_recipe: Callable[..., Run], tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "flags").write_bytes(content)
    run = run_recipe(f"--flagfile={tmp_path / 'flags'}", module=PROGRAM)
    assert run.stderr.count("\n") == (run.status == 2), run.stderr
    assert re.search(words, run.stderr + run.stdout)


def test_secrets_are_masked_in_the_records_of_a_run(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--how=record", "--api_token=s3cret", "--image_key=picture", module=PROGRAM)
    assert run.status == 0, run.stderr
    assert "s3cret" not in run.stdout + run.stderr
    flags, record, page = json.loads(run.stdout)
    wanted = {"api_token": "***", "image_key": "picture", "max_tokens": 512}
    assert wanted.items() <= flags.items()
    assert wanted.items() <= record["configuration"].items()
    assert record["command"].endswith("--api_token=*** --image_key=picture")
    assert "--api_token=***" in page


def test_secrets_are_not_repeated_in_an_error(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("hf_token=s3cret", "https://me:s3cret@host", module=PROGRAM)
    assert run.status == 2
    assert "Unknown arguments: hf_token=*** https://***@host." in run.stderr


@pytest.mark.parametrize("flags", [[], ["--help"]])
def test_an_output_that_cannot_be_written_gives_one_line_and_status_1(flags: list[str]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, *forked("-m", PROGRAM, *flags)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=own_environment(PYTHONUNBUFFERED=""),
            timeout=300,
        )
    lines = [line for line in done.stderr.splitlines() if not is_start_up(line)]
    assert done.returncode == 1
    assert lines == [
        "failing_program.py: standard output could not be written: No space left on device."
    ]


def test_ctrl_c_during_training_gives_one_line_and_writes_nothing(
    data_dir: str, tmp_path: Path
) -> None:
    model_dir = tmp_path / "model"
    flags = [f"--data_dir={data_dir}", f"--model_dir={model_dir}", "--train_epochs=100000"]
    process = subprocess.Popen(
        # Python installs its handler only where SIGINT is not ignored, as it is for background
        # jobs of a shell.
        prepared(
            "signal.signal(signal.SIGINT, signal.SIG_DFL)",
            sys.executable,
            *forked("-m", "recipes.image_classification", *flags),
        ),
        cwd=ROOT,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        seen, deadline = b"", time.monotonic() + 240
        while b"Epoch 3/" not in seen:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([process.stdout], [], [], left)[0], seen
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            assert chunk, seen
            seen += chunk
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    lines = [line for line in errors.decode().splitlines() if not is_start_up(line)]
    assert lines == ["image_classification.py: Interrupted."]
    assert process.returncode == 130
    assert [*model_dir.iterdir()] == []
