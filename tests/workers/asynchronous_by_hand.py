"""Longer proofs of asynchronous training than `make test` has time for.

python -m tests.workers.asynchronous_by_hand counts --runs=20     # no update is ever lost
python -m tests.workers.asynchronous_by_hand faults --runs=3      # what a killed task costs
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.workers.job import ROOT, Found

LAUNCH = [
    sys.executable,
    *("-m", "tfscale", "launch", "--num_workers=2", "--num_ps=1"),
    *("--max_restarts=9", "--early_seconds=0", "--grace_seconds=1", "--"),
    *(sys.executable, "-m", "tests.workers.asynchronous"),
]
JOB_SECONDS = 600.0
STEPS = 2000
FAULT_STEPS = 1000


@dataclass(frozen=True)
class Line:
    """A line of the chief's progress: when, and which step of all."""

    at: float
    word: str
    steps: int


def main() -> int:
    """Runs what the flags say; 1 where a run was wrong."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("what", choices=("counts", "faults"))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.what == "counts":
        return _counts(arguments.runs)
    return _faults(arguments.runs, random.Random(arguments.seed))


def _counts(runs: int) -> int:
    right = {"iterations": STEPS, "moved": [float(STEPS)], "batches": STEPS, "draws": STEPS}
    wrong = 0
    for run in range(runs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "steps").write_text(str(STEPS), "utf-8")
            found = _ended(folder, "counts", _started(folder, "counts"))
        history = found.pop("history")
        wrong += found != right
        stale = f"staleness {history['staleness']:.2f}, at most {history['max_staleness']:.0f}"
        print(f"run {run}: {found}, {stale}", flush=True)
    print(f"{runs - wrong} of {runs} runs lost no update")
    return int(wrong > 0)


def _faults(runs: int, draw: random.Random) -> int:
    print("| killed | at step | steps lost | next step after | iterations (right: 1000) |")
    print("|---|---|---|---|---|")
    for task in ("worker-1", "ps-0", "chief-0"):
        for _ in range(runs):
            with tempfile.TemporaryDirectory() as name:
                print(_fault(Path(name), task, draw.randrange(100, 600)), flush=True)
    return 0


def _fault(folder: Path, task: str, at_step: int) -> str:
    process = _started(folder, "faults")
    for _ in _polling():
        lines = _progress(folder)
        if lines and lines[-1].steps >= at_step:
            break
    killed_at, steps = time.time(), _progress(folder)[-1].steps
    os.kill(int((folder / f"{task}.pid").read_text("utf-8")), signal.SIGKILL)
    found = _ended(folder, "faults", process)
    before = [line for line in _progress(folder) if line.at <= killed_at]
    after = _progress(folder)[len(before) :]
    begun = next((index for index, line in enumerate(after) if line.word == "begin"), None)
    lost = 0
    if begun is not None:  # the whole job began again, after the chief had handed out some more
        lost = max(line.steps + 1 for line in [*before, *after[:begun]]) - after[begun].steps
        after = after[begun + 1 :]
    again = next(line.at for line in after if line.word == "step")
    seconds = f"{again - killed_at:.1f} s"
    return f"| {task} | {steps} | {lost} | {seconds} | {found['iterations']} |"


def _started(folder: Path, case: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    return subprocess.Popen(
        [*LAUNCH, str(folder), case],
        cwd=ROOT,
        env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )


def _ended(folder: Path, case: str, process: subprocess.Popen[bytes]) -> Found:
    try:
        status = process.wait(timeout=JOB_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise TimeoutError(f"the job hung for {JOB_SECONDS:g} s") from None
    if status != 0:
        raise RuntimeError(f"the job ended with status {status}")
    found: Found = json.loads((folder / f"{case}-0.json").read_text("utf-8"))
    return found


def _progress(folder: Path) -> list[Line]:
    text = ""
    with contextlib.suppress(FileNotFoundError):
        text = (folder / "progress").read_text("utf-8")
    parts = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [Line(float(at), word, int(steps)) for at, word, steps in parts]


def _polling() -> Iterator[None]:
    end = time.monotonic() + JOB_SECONDS
    while time.monotonic() < end:
        yield
        time.sleep(0.01)
    raise TimeoutError(f"the job came nowhere within {JOB_SECONDS:g} s")


if __name__ == "__main__":
    sys.exit(main())
