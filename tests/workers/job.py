"""A job of several workers under `tfscale launch`, and the results that each worker writes.

A worker's program runs as `python -m tests.workers.MODULE FOLDER CASE` and writes
`FOLDER/CASE-INDEX.json`; see `leave`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.programs import forked, started

DEADLINE_SECONDS = 480
"""Of a whole job. It ends one that hangs; on an idle machine the longest takes 30 s."""
SOON_SECONDS = 60
"""Most that a worker may go on after another one has failed. It does so within seconds, however
busy the machine is; without a notice it would wait for the 300 s of a rendezvous."""

Found = dict[str, Any]


def leave(folder: Path, case: str, index: int, found: Found) -> None:
    """In a worker: writes its results in one step, so that no reader sees half of them."""
    path = folder / f"{case}-{index}.json"
    path.with_suffix(".part").write_text(json.dumps(found), "utf-8")
    path.with_suffix(".part").rename(path)


def wait_for(path: Path, seconds: float = 240) -> None:
    """In a worker: waits until another process has made a file."""
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path.name} was not there after {seconds:g} s")
        time.sleep(0.02)


def launch(module: str, *arguments: str, num_workers: int = 2, flags: str = "") -> list[str]:
    """Returns what follows `python` in the command of a job.

    Args:
        module: Program of `tests.workers` that each task runs.
        *arguments: Of that program.
        num_workers: Positive.
        flags: More flags of `tfscale launch`, separated by spaces.
    """
    launcher = ["-m", "tfscale", "launch", f"--num_workers={num_workers}", "--grace_seconds=1"]
    program = [sys.executable, *forked("-m", f"tests.workers.{module}", *arguments)]
    return [*launcher, *flags.split(), "--", *program]


def run_workers(module: str, folder: Path, case: str, num_workers: int = 2) -> list[Found]:
    """Runs a job to its end and returns the results of each worker."""
    _run(case, *launch(module, str(folder), case, num_workers=num_workers))
    return left(folder, case, num_workers)


def run_one_device(module: str, folder: Path, case: str) -> Found:
    """Runs a program outside any cluster and returns its results."""
    _run(case, *forked("-m", f"tests.workers.{module}", str(folder), case))
    return left(folder, case, 1)[0]


def _run(case: str, *command: str) -> None:
    process = started(*command)
    try:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # the launcher ends its workers
        output, _ = process.communicate()
        raise AssertionError(f"{case} hung:\n{output[-6000:]}") from None
    assert process.returncode == 0, f"{case} ended with {process.returncode}:\n{output[-6000:]}"


def left(folder: Path, case: str, num_workers: int = 2) -> list[Found]:
    """Returns the results that each worker of a job has written."""
    files = [folder / f"{case}-{index}.json" for index in range(num_workers)]
    return [json.loads(file.read_text("utf-8")) for file in files]
