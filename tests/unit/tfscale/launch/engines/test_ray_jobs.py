"""What `--engine=ray` submits and refuses, and how it reads Ray's answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfscale.launch.engines import JobRequest, State
from tfscale.launch.engines.engine_tools import EngineFailed
from tfscale.launch.engines.job_record import new_record
from tfscale.launch.engines.ray.engine import Ray, status_of


def submitted(**given: object) -> tuple[str, ...]:
    request = JobRequest(("python", "t.py", "a b"), "digits", 2, **given)  # type: ignore[arg-type]
    (command,) = Ray().submission(request, new_record(request, "ray", Path("/jobs"))).commands
    return command


def described(command: tuple[str, ...]) -> dict[str, object]:
    (runtime,) = [word for word in command if word.startswith("--runtime-env-json=")]
    variables = json.loads(runtime.partition("=")[2])["env_vars"]
    found = json.loads(variables["TFSCALE_RAY_JOB"])
    assert isinstance(found, dict)
    return found


def test_a_job_is_submitted_under_its_id_with_the_whole_command() -> None:
    command = submitted(options={"address": "http://head:8265"}, folder=Path("/work"))
    assert command[:4] == ("ray", "job", "submit", "--address=http://head:8265")
    assert command[-4:] == ("--", "python", "-m", "tfscale.launch.engines.ray.driver")
    job = described(command)
    assert job["command"] == ["python", "t.py", "a b"]
    assert f"--submission-id={job['job_id']}" in command
    assert (job["folder"], job["placement"]) == ("/work", "PACK")


def test_resources_of_a_worker_are_those_of_ray() -> None:
    command = submitted(gpus_per_worker=2, cpus_per_worker=4, memory=1 << 30)
    assert described(command)["resources"] == {"CPU": 4, "GPU": 2, "memory": 1 << 30}
    assert described(submitted())["resources"] == {"CPU": 1}


def test_an_uploaded_folder_is_the_working_directory() -> None:
    command = submitted(options={"upload": ".", "placement": "spread"})
    assert "--working-dir=." in command
    job = described(command)
    assert (job["folder"], job["placement"]) == (None, "SPREAD")


# What Ray 2.60 prints with --log-style=record.
@pytest.mark.parametrize(
    ("answer", "state", "exit_status"),
    [
        ("Status for job 'digits-1': PENDING\nStatus message: waiting", State.PENDING, None),
        ("Status for job 'digits-1': RUNNING", State.RUNNING, None),
        ("Job 'digits-1' succeeded", State.SUCCEEDED, 0),
        ("Job 'digits-1' was stopped", State.STOPPED, None),
        (
            "Job 'digits-1' failed\nStatus message: Job entrypoint command failed with exit code "
            "3, last available logs (truncated to 20,000 chars):",
            State.FAILED,
            3,
        ),
        ("Job 'd' failed\nStatus message: failed with exit code 42,", State.STOPPED, 42),
        ("nothing of the kind", State.UNKNOWN, None),
    ],
)
def test_answers_of_ray_are_read(answer: str, state: State, exit_status: int | None) -> None:
    found = status_of(answer)
    assert (found.state, found.exit_status) == (state, exit_status)


def test_the_id_is_that_of_the_answer() -> None:
    answer = "Job submission server address: http://h:1\nJob 'digits-7f' submitted successfully\n"
    assert Ray().engine_id(answer) == "digits-7f"
    with pytest.raises(EngineFailed, match="Ray did not take the job"):
        Ray().engine_id("")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_ps": 1}, r"`--num_ps` must be 0 with --engine=ray"),
        ({"num_data_workers": 1}, r"`--num_data_workers` must be 0 with --engine=ray"),
        ({"options": {"placement": "near"}}, r"`--option placement` must be pack or spread"),
    ],
)
def test_what_ray_cannot_do_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        submitted(**given)
