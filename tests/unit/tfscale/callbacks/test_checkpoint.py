"""A training that is interrupted and resumed equals the uninterrupted training."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from strategies.keras_support.patching import ownership
from tests.programs import forked, run_program
from tfscale.callbacks import Checkpoint

PROGRAM = Path(__file__).with_name("checkpoint_training.py")
DEADLINE_S = 480

# Batches trained before the interruption, and where the newest checkpoint then stands: 5 batches an
# epoch, one saved every 2 of all, the interrupted one not yet.
STOPS = {7: (1, 1, 6)}
STOPS_AT_LENGTH = {3: (0, 2, 2), 11: (2, 0, 10)}
CASES = [("pipeline", 7), ("arrays", 8)]
CASES_AT_LENGTH = [*(("pipeline", stop) for stop in STOPS_AT_LENGTH), ("dataset", 9)]
ON_TWO = {"kind": "mirrored", "replicas": 2}


class Jobs:
    """Jobs of one process after another, all in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waiting: list[dict[str, Any]] = []

    def add(self, output: str, folder: str, **job: Any) -> None:
        self.waiting.append(
            {**job, "folder": str(self.folder / folder), "output": str(self.folder / output)}
        )

    def run(self, *launch: str) -> str:
        program = forked(str(PROGRAM), json.dumps(self.waiting))
        printed = run_program(*launch, *program, timeout=DEADLINE_S)
        self.waiting = []
        return printed

    def found(self, output: str, worker: int = 0) -> dict[str, Any]:
        return dict(json.loads((self.folder / f"{output}.{worker}").read_text()))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """Everything on one host: a process that is interrupted, and one that resumes."""
    jobs = Jobs(tmp_path_factory.mktemp("checkpoint"))
    interrupt(jobs, CASES)
    jobs.add("plain whole", "plain whole", **ON_TWO, data="uneven pipeline", dropout=0)
    jobs.add("plain first", "plain 2", **ON_TWO, data="uneven pipeline", dropout=0, stop=9)
    jobs.run()
    on_three = {"kind": "mirrored", "replicas": 3}
    jobs.add("plain 3", "plain 2", **on_three, data="uneven pipeline", dropout=0)
    resume(jobs, CASES)
    jobs.add("finished", "pipeline whole", **ON_TWO, data="pipeline")
    jobs.run()
    return jobs


@pytest.fixture(scope="module")
def jobs_at_length(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    jobs = Jobs(tmp_path_factory.mktemp("checkpoint_at_length"))
    interrupt(jobs, CASES_AT_LENGTH)
    jobs.run()
    resume(jobs, CASES_AT_LENGTH)
    jobs.run()
    return jobs


def interrupt(jobs: Jobs, cases: list[tuple[str, int]]) -> None:
    """Adds whole runs, and those that are interrupted."""
    for data in dict(cases):
        jobs.add(f"{data} whole", f"{data} whole", **ON_TWO, data=data)
    for data, stop in cases:
        jobs.add(f"{data} {stop} first", f"{data} {stop}", **ON_TWO, data=data, stop=stop)


def resume(jobs: Jobs, cases: list[tuple[str, int]]) -> None:
    for data, stop in cases:
        jobs.add(f"{data} {stop}", f"{data} {stop}", **ON_TWO, data=data)


@pytest.mark.parametrize(("data", "stop"), CASES)
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(
    jobs: Jobs, data: str, stop: int
) -> None:
    require_equal(jobs, data, stop)


@pytest.mark.thorough
@pytest.mark.parametrize(("data", "stop"), CASES_AT_LENGTH)
def test_more_resumed_runs_equal_the_uninterrupted_one_to_the_bit(
    jobs_at_length: Jobs, data: str, stop: int
) -> None:
    require_equal(jobs_at_length, data, stop)


def require_equal(jobs: Jobs, data: str, stop: int) -> None:
    whole, resumed = jobs.found(f"{data} whole"), jobs.found(f"{data} {stop}")
    assert resumed["variables"] == whole["variables"]
    epoch = resumed["resumed_from"]["epoch"]
    assert resumed["history"] == {name: all_[epoch:] for name, all_ in whole["history"].items()}


@pytest.mark.parametrize("stop", STOPS)
def test_training_resumes_at_the_batch_after_the_last_saved_one(jobs: Jobs, stop: int) -> None:
    assert resumed_from(jobs, stop) == STOPS[stop]


@pytest.mark.thorough
@pytest.mark.parametrize("stop", STOPS_AT_LENGTH)
def test_training_resumes_in_the_first_and_the_last_epoch_too(
    jobs_at_length: Jobs, stop: int
) -> None:
    assert resumed_from(jobs_at_length, stop) == STOPS_AT_LENGTH[stop]


def resumed_from(jobs: Jobs, stop: int) -> tuple[int, int, int]:
    found = jobs.found(f"pipeline {stop}")["resumed_from"]
    return found["epoch"], found["step"], found["batches"]


def test_three_replicas_go_on_with_the_numbers_of_two(jobs: Jobs) -> None:
    whole, resumed = jobs.found("plain whole"), jobs.found("plain 3")
    for ours, theirs in zip(resumed["variables"], whole["variables"], strict=True):
        one, other = (np.frombuffer(bytes.fromhex(x)) for x in (ours, theirs))
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    for name, values in resumed["history"].items():
        assert values == pytest.approx(whole["history"][name][1:], rel=1e-12)


def test_a_finished_run_is_as_it_was_and_trains_nothing(jobs: Jobs) -> None:
    whole, again = jobs.found("pipeline whole"), jobs.found("finished")
    assert again["variables"] == whole["variables"]
    assert again["history"] == {}
    assert again["resumed_from"] == {"epoch": 3, "step": 0, "batches": 15}


@pytest.mark.thorough
def test_two_workers_resume_to_the_bit(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    launch = ["-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable]
    jobs.add("whole", "whole", kind="workers", data="pipeline")
    jobs.add("first", "run", kind="workers", data="pipeline", stop=8)
    jobs.run(*launch)
    jobs.add("resumed", "run", kind="workers", data="pipeline")
    jobs.run(*launch)
    for worker in range(2):
        whole, resumed = jobs.found("whole", worker), jobs.found("resumed", worker)
        assert resumed["variables"] == whole["variables"]
        assert resumed["resumed_from"] == {"epoch": 1, "step": 1, "batches": 6}
        assert resumed["history"] == {name: v[1:] for name, v in whole["history"].items()}


def test_a_model_under_no_strategy_of_ours_is_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    plain.compile("sgd", "mse")
    rows = np.ones([4, 1])
    monkeypatch.setattr(ownership, "_BUILT", set())  # whatever ran in this process before
    with pytest.raises(ValueError, match=r"strategies\.one_device_strategy\(\)\.scope\(\)"):
        plain.fit(rows, rows, callbacks=[Checkpoint(tmp_path)], verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "`every` must be 'epoch' or a positive number of global batches. Received"),
        ({"every": "step"}, "`every` must be 'epoch' or a positive number"),
        ({"every": True}, "`every` must be 'epoch' or a positive number"),
        ({"keep": 0}, "`keep` must be a positive number, or None. Received: keep=0"),
    ],
)
def test_the_impossible_is_refused(tmp_path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Checkpoint(tmp_path, **arguments)
