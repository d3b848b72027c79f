"""Whether asynchronous jobs count every step exactly, undisturbed and with tasks killed.

python -m tests.asynchronous.exact_counts undisturbed --runs=20
python -m tests.asynchronous.exact_counts killed

`undisturbed` trains 2,000 steps in each run and compares what was counted and applied. `killed`
kills a worker in five jobs, a server in three and the chief in three, each at a random
step, and prints a row per job. Exit status 1 if a count is wrong, or if a job restarted
too often or hung; the lines of such a job are kept in --logs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.lines import RESTART_LINE
from tests.programs import ROOT, own_environment
from tests.workers.job import Found

LAUNCH = [
    sys.executable,
    *("-m", "tfscale", "launch", "--num_workers=2", "--num_ps=1"),
    *("--max_restarts=9", "--early_seconds=0", "--grace_seconds=1", "--"),
    *(sys.executable, "-m", "tests.workers.asynchronous"),
]
JOB_SECONDS = 900.0
STEPS = 2000
FAULT_STEPS, EPOCH_STEPS = 1000, 25
KILLED = {"worker-1": 5, "ps-0": 3, "chief-0": 3}


@dataclass(frozen=True)
class Line:
    """A line of the chief's progress.

    Attributes:
        at: When, in seconds since 1970.
        word: begin, step or epoch.
        steps: Of the training so far.
        of_last_worker: Of an epoch that ended, those that worker 1 took.
    """

    at: float
    word: str
    steps: int
    of_last_worker: int


def main() -> int:
    """Runs what the flags say; 1 where a run was wrong."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("what", choices=("undisturbed", "killed"))
    parser.add_argument("--runs", type=int, default=20, help="of undisturbed")
    parser.add_argument("--seed", type=int, default=0, help="of the steps of killed jobs")
    parser.add_argument("--logs", type=Path, default=Path(), help="folder for lines of wrong jobs")
    arguments = parser.parse_args()
    if arguments.what == "undisturbed":
        return _undisturbed(arguments.runs)
    return _killed(random.Random(arguments.seed), arguments.logs)


def _undisturbed(runs: int) -> int:
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


def _killed(draw: random.Random, logs: Path) -> int:
    print("| killed | at step | steps lost | next step after | all train after | steps counted |")
    print("|---|---|---|---|---|---|")
    wrong = 0
    for task, jobs in KILLED.items():
        for job in range(jobs):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                try:
                    row = _killed_job(folder, task, draw.randrange(50, 600))
                except (RuntimeError, TimeoutError) as error:
                    wrong += 1
                    row = f"| {task} | {error} | | | | |"
                    kept = logs / f"{task}-{job}.log"
                    kept.write_bytes((folder / "lines").read_bytes())
                print(row, flush=True)
    print(f"{sum(KILLED.values()) - wrong} of {sum(KILLED.values())} jobs were right")
    return int(wrong > 0)


def _killed_job(folder: Path, task: str, at_step: int) -> str:
    process = _started(folder, "faults")
    for _ in _polling(process):
        lines = _progress(folder)
        if lines and lines[-1].steps >= at_step:
            break
    os.kill(int((folder / f"{task}.pid").read_text("utf-8")), signal.SIGKILL)
    killed_at, steps = time.time(), _progress(folder)[-1].steps
    found = _ended(folder, "faults", process)
    before = [line for line in _progress(folder) if line.at <= killed_at]
    after = _progress(folder)[len(before) :]
    begun = next((index for index, line in enumerate(after) if line.word == "begin"), None)
    lost = 0
    if begun is not None:  # the whole job began again, after the chief had handed out some more
        lost = max(line.steps + 1 for line in [*before, *after[:begun]]) - after[begun].steps
        after = after[begun + 1 :]
    again = next(line.at for line in after if line.word == "step") - killed_at
    _refuse_wrong(folder, task, found)
    return f"| {task} | {steps} | {lost} | {again:.1f} s | {_back(after, killed_at)} | " + (
        f"{found['iterations']} |"
    )


def _back(after: list[Line], killed_at: float) -> str:
    """How long until worker 1 trained too, to an epoch; what was begun before does not count."""
    epochs = [line for line in after if line.word == "epoch"][1:]
    back = next((line.at for line in epochs if line.of_last_worker), None)
    return "not before the end" if back is None else f"{back - killed_at:.1f} s"


def _refuse_wrong(folder: Path, task: str, found: Found) -> None:
    # A worker's last step may have been applied before another one took it over.
    counted = {FAULT_STEPS, FAULT_STEPS + 1} if task.startswith("worker") else {FAULT_STEPS}
    restarts = len(re.findall(RESTART_LINE, (folder / "lines").read_text("utf-8"), re.MULTILINE))
    if restarts != int(not task.startswith("worker")):
        raise RuntimeError(f"the job started again {restarts} times")
    if not {found["iterations"], found["draws"], *found["moved"]} <= counted:
        raise RuntimeError(f"wrong counts: {found}")
    if found["batches"] != EPOCH_STEPS or len(found["moved"]) != 1:
        raise RuntimeError(f"wrong counts: {found}")


def _started(folder: Path, case: str) -> subprocess.Popen[bytes]:
    with (folder / "lines").open("wb") as lines:
        return subprocess.Popen(
            [*LAUNCH, str(folder), case],
            cwd=ROOT,
            env=own_environment(),
            stdout=lines,
            stderr=subprocess.STDOUT,
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
    return [Line(float(at), word, int(steps), int(own)) for at, word, steps, own in parts]


def _polling(process: subprocess.Popen[bytes]) -> Iterator[None]:
    end = time.monotonic() + JOB_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the job ended with status {process.returncode}, by itself")
        yield
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait()
    raise TimeoutError(f"the job came nowhere within {JOB_SECONDS:g} s")


if __name__ == "__main__":
    sys.exit(main())
