"""Of three workers the right one is named: it is stopped, slow, failed or keeps all heartbeats."""

from __future__ import annotations

import os
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.workers.watched_job import LAUNCH, NOTICED_SECONDS, Job, begun, ended

pytestmark = pytest.mark.thorough

FAULTS = {"stop": 2, "slow": 1, "raise": 1, "stop first": 0}
"""The worker at fault; the first word is the case of `tests.workers.watched`."""
STAYS_STOPPED = "stop first"
WATCH_SECONDS = 60
JOBS = 2


def run(name: str, folder: Path) -> Job:
    """Runs a job to its end; a stopped worker goes on when both others have named it, or never."""
    case, culprit = name.split()[0], FAULTS[name]
    folder.mkdir()
    launch = [*LAUNCH, "--num_workers=3", "--", sys.executable]
    process = begun(folder, case, culprit, *launch, deadline=WATCH_SECONDS)
    processes: list[int] = []
    named_by: set[str] = set()

    def see(line: str) -> None:
        if match := re.search(rf"worker {culprit} is process (\d+)", line):
            processes.append(int(match[1]))
        if "has not answered" in line:
            named_by.add(line.partition("]")[0])
            if name != STAYS_STOPPED and len(named_by) == 2:
                os.kill(processes[0], signal.SIGCONT)

    return ended(process, folder / case, see)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    folder = tmp_path_factory.mktemp("three")
    with ThreadPoolExecutor(JOBS) as pool:
        found = pool.map(lambda name: run(name, folder / name.replace(" ", "-")), FAULTS)
        return dict(zip(FAULTS, found, strict=True))


def test_a_stopped_worker_is_named_and_named_again_when_it_moves(jobs: dict[str, Job]) -> None:
    job = jobs["stop"]
    silent = r"watchdog: worker 2 has not answered for \d+ s, last at epoch 1, step \d"
    for worker in (0, 1):
        assert job.at(rf"\[worker {worker}\] tfscale: {silent}") < NOTICED_SECONDS
        assert job.at(rf"\[worker {worker}\] tfscale: watchdog: worker 2 makes progress again") > 0
    assert job.after_fault("watchdog: worker [01] ") == []
    assert job.status == 0, job.text()[-6000:]


def test_a_worker_whose_input_is_slow_is_named_with_its_phase(jobs: dict[str, Job]) -> None:
    job = jobs["slow"]
    slower = r"worker 1 is slower: its own work in epoch \d took .*; most of .* is in input: "
    assert job.at(rf"\[worker 0\] tfscale: watchdog: {slower}") > 0
    # On a busy machine another worker may truly be slower in some epoch.
    others = job.after_fault(r"worker [02] is slower")
    assert len(job.after_fault("worker 1 is slower")) > len(others), others
    assert job.status == 0, job.text()[-6000:]


def test_a_worker_that_raises_is_named_by_the_others(jobs: dict[str, Job]) -> None:
    job = jobs["raise"]
    for worker in (0, 2):
        failed = "watchdog: worker 1 failed with ValueError: epoch 1, step 3, phase callbacks"
        assert job.at(rf"\[worker {worker}\] tfscale: {failed}") < NOTICED_SECONDS
    assert "worker 1 failed with ValueError: a row of letters" in job.text()
    # A worker that ends a little later may read that the third has failed because of the first.
    assert job.after_fault(r"watchdog: worker [02] (?!failed with)") == []
    assert job.status == 1


def test_no_other_worker_is_blamed_if_the_first_has_stopped(jobs: dict[str, Job]) -> None:
    """Its process keeps the heartbeats of all workers, so theirs cannot be read either."""
    job = jobs[STAYS_STOPPED]
    for worker in (1, 2):
        silent = r"watchdog: worker 0 has not answered for \d+ s"
        assert job.at(rf"\[worker {worker}\] tfscale: {silent}") < NOTICED_SECONDS
    assert job.after_fault(r"watchdog: worker [12] ") == []
    assert job.status != 0
