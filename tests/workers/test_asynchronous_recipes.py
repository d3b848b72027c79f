"""Recipes on two workers and two parameter servers, with a task killed or the job interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.traces import end_all, marked, processes
from tests.programs import ROOT, own_environment

pytestmark = pytest.mark.thorough

LAUNCH = ["-m", "tfscale", "launch", "--num_workers=2", "--num_ps=2", "--early_seconds=0"]
WHERE = ["--distribution_strategy=parameter_server", "--checkpoint_every=epoch"]
RECIPES = {
    "recommendation": [
        *("recipes.recommendation", "--num_shards=2", "--train_epochs=6", "--num_rows=20000"),
        *("--num_users=60", "--num_items=40"),
    ],
    "digits": ["recipes.image_classification", "--dataset=digits", "--train_epochs=6"],
}
JOB_SECONDS = 400.0

Job = subprocess.Popen[str]
Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a recipe's job; its remaining processes are killed at the end."""
    jobs: list[Job] = []

    def run(recipe: str, *launcher_flags: str) -> Job:
        program = [sys.executable, "-m", *RECIPES[recipe], *WHERE, f"--model_dir={tmp_path}"]
        with (tmp_path / "lines").open("w") as lines:
            job = subprocess.Popen(
                [sys.executable, *LAUNCH, *launcher_flags, "--", *program],
                cwd=ROOT,
                env=own_environment(**marked(str(tmp_path))),
                stdout=lines,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        jobs.append(job)
        return job

    yield run
    end_all(str(tmp_path))
    for job in jobs:
        job.wait()


def await_checkpoint(folder: Path, number: int) -> None:
    """Returns when that many epochs have been saved."""
    end = time.monotonic() + JOB_SECONDS
    while sum(path.name.startswith("step-") for path in folder.glob("checkpoints/*")) < number:
        assert time.monotonic() < end, (folder / "lines").read_text("utf-8")
        time.sleep(0.05)


def process_of(folder: Path, task_type: str, index: int) -> int:
    """Returns the process of a task, which is named in its TF_CONFIG."""
    for process in processes(str(folder)):
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        config = next((v[10:] for v in variables if v.startswith(b"TF_CONFIG=")), b"{}")
        if json.loads(config).get("task") == {"type": task_type, "index": index}:
            return process
    raise AssertionError(f"no {task_type} {index}")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("task_type", "index"), [("ps", 1), ("chief", 0)])
def test_a_recipe_that_loses_a_task_resumes_after_its_last_epoch(
    start: Start, tmp_path: Path, recipe: str, task_type: str, index: int
) -> None:
    job = start(recipe, "--max_restarts=1")
    await_checkpoint(tmp_path, 2)
    os.kill(process_of(tmp_path, task_type, index), signal.SIGKILL)
    assert job.wait(JOB_SECONDS) == 0, (tmp_path / "lines").read_text("utf-8")
    lines = (tmp_path / "lines").read_text("utf-8")
    assert lines.count(". Restart in ") == 1
    assert re.search(r"resuming from .*checkpoints after \d of 6 epochs", lines)
    history = json.loads((tmp_path / "summary.json").read_text("utf-8"))["history"]
    assert len(history["loss"]) == 6
    # A released lease may be left: the second start keeps the record of the one that it replaced.
    assert list((tmp_path / "checkpoints").glob("step-*")) == []


def test_ctrl_c_ends_every_task_within_a_minute(start: Start, tmp_path: Path) -> None:
    job = start("recommendation")
    await_checkpoint(tmp_path, 1)
    os.killpg(job.pid, signal.SIGINT)  # what a terminal does
    assert job.wait(60) == 128 + signal.SIGINT
    assert processes(str(tmp_path)) == []
