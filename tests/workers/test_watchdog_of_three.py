"""Of three workers the right one is named: stopped, slow, failed, or keeper of the words of all."""

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
"""By its name, the case of `tests.workers.watched` and the worker at fault."""
FOR_GOOD = "stop first"
WATCH_SECONDS = 60
JOBS = 2


def run(name: str, folder: Path) -> Job:
    """Runs a job to its end; a worker that has stopped goes on when both named it, or never."""
    case, culprit = name.split()[0], FAULTS[name]
    folder.mkdir()
    launch = [*LAUNCH, "--num_workers=3", "--", sys.executable]
    process = begun(folder, case, culprit, *launch, deadline=WATCH_SECONDS)
    processes: list[int] = []
    named_by: set[str] = set()

    def see(line: str) -> None:
        if match := re.search(rf"worker {culprit} is process (\d+)", line):
            processes.append(int(match[1]))
        if "does not answer" in line:
            named_by.add(line.partition("]")[0])
            if name != FOR_GOOD and len(named_by) == 2:
                os.kill(processes[0], signal.SIGCONT)

    return ended(process, folder / case, see)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    folder = tmp_path_factory.mktemp("three")
    with ThreadPoolExecutor(JOBS) as pool:
        found = pool.map(lambda name: run(name, folder / name.replace(" ", "-")), FAULTS)
        return dict(zip(FAULTS, found, strict=True))


def test_a_stopped_worker_is_named_and_so_is_that_it_moves_again(jobs: dict[str, Job]) -> None:
    job = jobs["stop"]
    silent = r"watchdog: worker 2 has not answered for \d+ s, last at epoch 1, step \d"
    for worker in (0, 1):
        assert job.at(rf"\[worker {worker}\] tfscale: {silent}") < NOTICED_SECONDS
        assert job.at(rf"\[worker {worker}\] tfscale: watchdog: worker 2 moves again") > 0
    assert re.findall(r"watchdog: worker [01] .*", job.text()) == []
    assert job.status == 0, job.text()[-6000:]


def test_a_worker_whose_input_is_slow_is_named_with_its_phase(jobs: dict[str, Job]) -> None:
    job = jobs["slow"]
    slower = r"worker 1 is slower: epoch 1 took .* of its own work, .*; most in input: "
    assert job.at(rf"\[worker 0\] tfscale: watchdog: {slower}") > 0
    assert re.findall(r"worker [02] is slower.*", job.text()) == []
    assert job.status == 0, job.text()[-6000:]


def test_a_worker_that_raises_is_named_by_the_others(jobs: dict[str, Job]) -> None:
    job = jobs["raise"]
    for worker in (0, 2):
        failed = "watchdog: worker 1 failed with ValueError: epoch 1, step 3, phase callbacks"
        assert job.at(rf"\[worker {worker}\] tfscale: {failed}") < NOTICED_SECONDS
    assert "worker 1 failed with ValueError: a row of letters" in job.text()
    assert re.findall(r"watchdog: worker [02] .*", job.text()) == []
    assert job.status == 1


def test_where_the_first_worker_has_stopped_nobody_else_is_blamed(jobs: dict[str, Job]) -> None:
    """Its process keeps the table of all words, so nobody hears the others either."""
    job = jobs[FOR_GOOD]
    for worker in (1, 2):
        silent = r"watchdog: worker 0 has not answered for \d+ s"
        assert job.at(rf"\[worker {worker}\] tfscale: {silent}") < NOTICED_SECONDS
    assert re.findall(r"watchdog: worker [12] .*", job.text()) == []
    assert job.status != 0
