"""The command of a plan, as each engine's own parser and checks take it."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.unit.tfscale.plan.simulation.predicted_steps import step
from tfscale.__main__ import main
from tfscale.plan import Circumstances, Failures, PlannedJob, Saves, best_plan, launch_request
from tfscale.plan.simulation.requests import program_lines, recipe_flags

PROGRAM = ("python", "train.py")
NEEDED: Mapping[str, Mapping[str, str]] = {
    "local": {},
    "slurm": {"partition": "gpu"},
    "kubernetes": {"image": "registry.example/digits:1"},
    "ray": {"address": "http://head:8265"},
    "mpi": {"launcher": "mpiexec", "args": "--allow-run-as-root"},
    "tpu_vm": {"tpu": "my-tpu", "zone": "us-west4-a"},
}


def planned_as(strategy: str, workers: int, replicas: int | None = None) -> PlannedJob:
    circumstances = Circumstances(
        examples=2_000_000, saves=Saves(10.0), failures=Failures(10 * 86_400.0), repeats=20
    )
    return best_plan([step(strategy, workers, 0.5, replicas=replicas)], circumstances).jobs[0]


@pytest.fixture(autouse=True)
def _programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFSCALE_JOBS_DIR", str(tmp_path / "jobs"))


@pytest.mark.parametrize("engine", NEEDED)
def test_the_engine_takes_the_command_that_is_written(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine == "mpi" and shutil.which("mpiexec") is None:
        pytest.skip("no mpiexec here")
    planned = planned_as("mirrored", 1, 2) if engine == "tpu_vm" else planned_as("ring", 4)
    request = launch_request(planned, engine=engine, program=PROGRAM, options=NEEDED[engine])
    split = request.words.index("--")
    # As a user would: the same words on the command line.
    words = [*request.words[1:split], "--dry_run", *request.words[split:]]
    assert main(words) == 0
    printed = capsys.readouterr().out

    def without_ids(text: str) -> list[str]:
        return [line for line in text.splitlines() if "train-" not in line]

    assert without_ids(printed) == without_ids(request.dry_run + "\n")
    assert request.words[-2:] == PROGRAM


@pytest.mark.parametrize(
    ("engine", "parts"),
    [
        pytest.param("slurm", ("--ntasks=4", "--time=", "--gpus-per-task=2"), id="slurm"),
        pytest.param("kubernetes", ("parallelism: 4", "nvidia.com/gpu"), id="kubernetes"),
    ],
)
def test_the_resources_of_the_plan_are_in_what_is_submitted(
    engine: str, parts: tuple[str, ...]
) -> None:
    request = launch_request(
        planned_as("ring", 4, 8),
        engine=engine,
        program=PROGRAM,
        gpus_per_worker=2,
        options=NEEDED[engine],
    )
    for part in parts:
        assert part in request.dry_run


def test_restarts_and_time_are_those_of_the_simulation() -> None:
    planned = planned_as("ring", 4)
    request = launch_request(planned, engine="local", program=PROGRAM)
    assert planned.forecast is not None
    assert f"--max_restarts={planned.forecast.most_restarts}" in request.words
    (limit,) = (word for word in request.words if word.startswith("--time_limit="))
    hours = int(limit.removeprefix("--time_limit=").removesuffix("h"))
    assert 1.25 * planned.high_seconds <= 3600 * hours < 1.25 * planned.high_seconds + 3600


def test_there_is_time_for_a_last_save() -> None:
    # Three steps of 0.5 s, and a save of 10 s.
    words = launch_request(planned_as("ring", 4), engine="slurm", program=PROGRAM).words
    assert "--grace_seconds=12" in words
    short = best_plan([step("ring", 4, 0.5)], Circumstances(examples=1000, repeats=2)).jobs[0]
    words = launch_request(short, engine="slurm", program=PROGRAM).words
    assert not any(word.startswith("--grace_seconds") for word in words)


def test_each_worker_beside_servers_has_restarts_of_its_own() -> None:
    request = launch_request(planned_as("parameter_servers", 4), engine="slurm", program=PROGRAM)
    assert "--num_ps=1" in request.words
    # 7 h of ten days: of four workers one fails with 0.1, one twice with 0.002.
    assert "--max_restarts=1" in request.words


def test_restarts_of_a_worker_are_a_quantile_of_its_failures() -> None:
    circumstances = Circumstances(examples=2_000_000, failures=Failures(10_000.0), repeats=5)
    planned = best_plan([step("parameter_servers", 4, 0.5)], circumstances).jobs[0]
    mean = planned.high_seconds / 10_000.0

    def at_most(count: int) -> float:
        terms = (mean**k / math.factorial(k) for k in range(count + 1))
        return math.exp(-mean) * sum(terms)

    most = next(count for count in range(100) if 4 * (1 - at_most(count)) <= 0.01)
    assert most > 5
    request = launch_request(planned, engine="slurm", program=PROGRAM)
    assert f"--max_restarts={most}" in request.words


def test_many_failures_of_many_workers_have_a_quantile() -> None:
    # exp(-mean) is 0 as a float; and 1e-11 is less than the rounding of a sum of 900 numbers.
    circumstances = Circumstances(examples=2_000_000, failures=Failures(10_000.0), repeats=5)
    planned = best_plan([step("parameter_servers", 4, 0.5)], circumstances).jobs[0]
    job = dataclasses.replace(planned.job, workers=10**9, failures=Failures(1.0))
    often = dataclasses.replace(planned, job=job)
    request = launch_request(often, engine="slurm", program=PROGRAM)
    (flag,) = (word for word in request.words if word.startswith("--max_restarts="))
    mean, found = planned.high_seconds, int(flag.removeprefix("--max_restarts="))
    # Of a normal distribution 1e-11 is 6.7 deviations.
    assert 6.5 < (found - mean) / math.sqrt(mean) < 7.0


@pytest.mark.parametrize(
    ("engine", "planned", "message"),
    [
        pytest.param(
            "ray",
            lambda: planned_as("parameter_servers", 4),
            "`--num_ps` must be 0 with --engine=ray",
            id="servers on Ray",
        ),
        pytest.param(
            "tpu_vm",
            lambda: planned_as("ring", 4),
            "`--num_workers` must be 1 with --engine=tpu_vm",
            id="workers on a TPU VM",
        ),
        pytest.param(
            "local",
            lambda: planned_as("ring", 4096),
            "`num_workers` must be at most 1024 on one host",
            id="4,096 workers on one host",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_said_in_its_words(
    engine: str, planned: Callable[[], PlannedJob], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        launch_request(planned(), engine=engine, program=PROGRAM, options=NEEDED[engine])


def test_an_option_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"`--option image=\.\.\.` must name a container image"):
        launch_request(planned_as("ring", 4), engine="kubernetes", program=PROGRAM)


@pytest.mark.parametrize(
    ("strategy", "workers", "replicas", "flags"),
    [
        ("mirrored", 1, 2, ["--distribution_strategy=mirrored", "--num_replicas=2"]),
        ("ring", 4, None, ["--distribution_strategy=multi_worker_mirrored"]),
        ("sharded_2", 4, None, ["--distribution_strategy=multi_worker_mirrored", "--shard=2"]),
        ("parameter_servers", 4, None, ["--distribution_strategy=parameter_server"]),
    ],
)
def test_recipes_get_their_flags(
    strategy: str, workers: int, replicas: int | None, flags: list[str]
) -> None:
    planned = planned_as(strategy, workers, replicas)
    found = recipe_flags(planned, ["python", "-m", "recipes.image_classification"])
    assert found[: len(flags)] == flags
    assert f"--global_batch_size={planned.prediction.global_batch_size}" in found
    assert f"--checkpoint_every={planned.job.every}" in found
    assert recipe_flags(planned, PROGRAM) == []


def test_a_program_of_the_user_gets_lines() -> None:
    planned = planned_as("local_updates", 4)
    assert program_lines(planned) == [
        "strategy = strategies.multi_worker_mirrored_strategy()",
        "global_batch_size = 40",
        f"steps_per_epoch = {planned.job.every}  # of fit, with data that repeats",
        # Checkpoint refuses a number of steps with LocalUpdates.
        "callbacks = [tfscale.callbacks.LocalUpdates(every=16), "
        "tfscale.callbacks.Checkpoint(folder)]",
    ]
    with pytest.raises(ValueError, match="`program` must be a program of your own"):
        recipe_flags(planned, ["python", "-m", "recipes.image_classification"])
