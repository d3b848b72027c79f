"""A job of two workers: `tfscale launch` in a process, and what each worker found.

A worker's program runs as `python -m tests.workers.MODULE FOLDER CASE` and leaves
`FOLDER/CASE-INDEX.json` behind; see `leave`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.programs import ROOT, own_environment

DEADLINE_SECONDS = 120

Found = dict[str, Any]


def leave(folder: Path, case: str, index: int, found: Found) -> None:
    """In a worker: says what it found, all at once."""
    path = folder / f"{case}-{index}.json"
    path.with_suffix(".part").write_text(json.dumps(found), "utf-8")
    path.with_suffix(".part").rename(path)


def wait_for(path: Path, seconds: float = 60) -> None:
    """In a worker: waits for a file of the other's, the one thing they share beside TensorFlow."""
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path.name} was not there after {seconds:g} s")
        time.sleep(0.02)


def run_workers(module: str, folder: Path, case: str, num_workers: int = 2) -> list[Found]:
    """Runs a job to its end and returns what each worker found."""
    launch = ["-m", "tfscale", "launch", f"--num_workers={num_workers}", "--grace_seconds=1", "--"]
    program = [sys.executable, "-m", f"tests.workers.{module}", str(folder), case]
    _run([sys.executable, *launch, *program], case)
    return left(folder, case, num_workers)


def run_alone(module: str, folder: Path, case: str) -> Found:
    """Runs a program that is no worker of any job."""
    _run([sys.executable, "-m", f"tests.workers.{module}", str(folder), case], case)
    return left(folder, case, 1)[0]


def started(command: list[str]) -> subprocess.Popen[str]:
    """Starts a job whose output is read as it comes."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _run(command: list[str], case: str) -> None:
    process = started(command)
    try:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # the launcher ends its workers
        output, _ = process.communicate()
        raise AssertionError(f"{case} hung:\n{output[-6000:]}") from None
    assert process.returncode == 0, f"{case} ended with {process.returncode}:\n{output[-6000:]}"


def left(folder: Path, case: str, num_workers: int = 2) -> list[Found]:
    """Returns what each worker of a job left behind."""
    files = [folder / f"{case}-{index}.json" for index in range(num_workers)]
    return [json.loads(file.read_text("utf-8")) for file in files]
