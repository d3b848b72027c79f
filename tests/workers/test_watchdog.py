"""A job that hangs names the worker that it waits for, and ends.

Tested here: the input of one of two workers that stalls, and a callback that never returns in a
single process. Jobs of three workers are in test_watchdog_of_three. Workers that are stopped,
killed or cut off are cases of `make faults`.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.workers.watched_job import LAUNCH, NOTICED_SECONDS, WATCH_SECONDS, Job, begun, ended


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """Both jobs, run at the same time: they mostly wait."""
    folder = tmp_path_factory.mktemp("watched")
    launch = [*LAUNCH, "--num_workers=2", "--", sys.executable]
    processes = {
        "input": begun(folder, "input", 1, *launch),
        "loop": begun(folder, "loop", 0),
    }
    with ThreadPoolExecutor() as readers:
        ends = {c: readers.submit(ended, process, folder / c) for c, process in processes.items()}
    return {case: end.result() for case, end in ends.items()}


def test_every_worker_names_the_one_whose_input_stalls(jobs: dict[str, Job]) -> None:
    job = jobs["input"]
    said = r"tfscale: watchdog: worker 1 has not moved for \d+ s: epoch 1, step 4, phase input\."
    for worker in (0, 1):
        assert job.at(rf"\[worker {worker}\] {said}") < NOTICED_SECONDS
    assert job.after_fault("watchdog: worker 0") == []


def test_the_stack_shows_the_generator_that_blocks(jobs: dict[str, Job]) -> None:
    for worker in (0, 1):
        assert jobs["input"].at(rf"\[worker {worker}\] .*watched\.py.*in rows") < NOTICED_SECONDS


def test_a_job_past_the_deadline_ends_and_says_why(jobs: dict[str, Job]) -> None:
    job = jobs["input"]
    said = rf"tfscale: watchdog: the job is ended after {WATCH_SECONDS} s: worker 1 has not moved"
    assert WATCH_SECONDS - 1 < job.at(said) < 2 * NOTICED_SECONDS
    # Worker 0 does not stay in its step: the error ends it, or the limit of 5 s after it.
    assert job.at(r"\[worker 0\] (.*Collective ops is aborted by|Timeout \(0:00:05\))") > 0
    assert job.status == 1


def test_the_launcher_names_the_worker_that_the_job_waited_for(jobs: dict[str, Job]) -> None:
    assert (
        jobs["input"].at(r"tfscale launch: worker 1 failed first: .*watchdog: the job is ended") > 0
    )
    assert "worker 0 failed first" not in jobs["input"].text()


def test_a_single_process_says_where_it_hangs_and_ends(jobs: dict[str, Job]) -> None:
    job = jobs["loop"]
    said = r"tfscale: watchdog: this process has not moved for \d+ s: epoch 1, step 3, phase callb"
    assert job.at(said) < NOTICED_SECONDS
    assert job.at(r"watched\.py.*in on_train_batch_end") < NOTICED_SECONDS
    assert job.at(f"the job is ended after {WATCH_SECONDS} s: this process") < 2 * NOTICED_SECONDS
    assert job.status == 1
