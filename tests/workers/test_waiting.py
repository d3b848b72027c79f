"""Without a Watchdog a worker that waits names the one it waits for, and nothing is ended.

One job has all the faults, one after the other; a worker that is stopped has a job of its own.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, own_environment
from tests.workers.job import DEADLINE_SECONDS

NOTICE_SECONDS = 2
FAULTS = {
    "callback": r"in the all-reduce of epoch 1, step 5, for worker 1\. worker 1 is in the callback "
    r"OnOneWorker\.on_train_batch_end, epoch 1, step 4 \(job\.py:\d+ in wait_for\)",
    "input": r"in the all-reduce of epoch 1, step 4, for worker 1\. worker 1 reads its input, "
    r"epoch 1, step 4 \(job\.py:\d+ in wait_for\)",
    "epoch end": r"at 'stop after this epoch\?' for worker 1\. worker 1 is in the callback "
    r"OnOneWorker\.on_epoch_end, epoch 1, step 8 \(job\.py:\d+ in wait_for\)",
    "outside": r"at 'fit\(\)' for worker 1\. worker 1 is outside of fit, evaluate and predict "
    r"\(job\.py:\d+ in wait_for\)",
    "evaluate": r"in the all-reduce of epoch 1, step 5, for worker 1\. worker 1 waits at "
    r"'evaluate\(\)' in the callback OnOneWorker\.on_train_batch_end",
}
ALONE = (
    r"worker 1 has waited \d+ s at a call that the others did not make\. worker 1 waits at "
    r"'evaluate\(\)' .*; worker 0 waits for the other workers in an all-reduce, epoch 1, step 5"
)
STOPPED = r"in the all-reduce of epoch 1, step 5, for worker 1\. worker 1 has not answered"
LASTS = {"evaluate": (FAULTS["evaluate"], ALONE), "stop": (STOPPED,)}
"""What ends a job: the lines of all that wait to the end."""


def run(folder: Path, *faults: str) -> list[str]:
    """Runs a job until its last fault is named by all that wait; returns the lines of tfscale."""
    launch = ["-m", "tfscale", "launch", "--num_workers=2", "--grace_seconds=1", "--"]
    process = subprocess.Popen(
        [sys.executable, *launch, sys.executable, "-m", "tests.workers.waiting", folder, *faults],
        cwd=ROOT,
        env=own_environment(TFSCALE_NOTICE_SECONDS=str(NOTICE_SECONDS)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    left = [*faults]
    awaited = set(LASTS.get(faults[-1], ()))
    for line in process.stdout:
        lines.append(line)
        if len(left) > 1 and re.search(FAULTS[left[0]], line):
            (folder / left.pop(0).replace(" ", "-")).touch()
        elif len(left) == 1 and awaited:
            awaited -= {pattern for pattern in awaited if re.search(pattern, line)}
            if not awaited:
                process.send_signal(signal.SIGTERM)
    process.wait(DEADLINE_SECONDS)
    return lines


def said_by(worker: int, lines: list[str]) -> list[str]:
    return [
        line.partition("tfscale: ")[2]
        for line in lines
        if re.match(rf"\[worker {worker}\] tfscale: worker \d (has waited|continues)", line)
    ]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return run(tmp_path_factory.mktemp("waiting"), *FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_worker_that_waits_names_the_other_and_what_it_does(
    lines: list[str], fault: str
) -> None:
    pattern = rf"worker 0 has waited (\d+) s {FAULTS[fault]}.* has not moved for \d+ s\. [LC]"
    found = [match for line in said_by(0, lines) if (match := re.match(pattern, line))]
    assert found, "".join(lines[-60:])
    assert int(found[0][1]) <= NOTICE_SECONDS + 3


def test_a_worker_that_makes_a_call_alone_says_so_itself(lines: list[str]) -> None:
    assert [line for line in said_by(1, lines) if re.match(ALONE, line)], "".join(lines[-60:])


def test_that_all_continues_is_said_once_a_fault(lines: list[str]) -> None:
    said = said_by(0, lines)
    continues = [i for i, line in enumerate(said) if "continues after" in line]
    # On a busy machine there are waits that are no fault of the job's: each ends by one line too.
    assert len(continues) >= len(FAULTS) - 1, "".join(lines[-60:])
    assert all("has waited" in said[i - 1] for i in continues), "".join(lines[-60:])
    for fault in [*FAULTS][:-1]:
        named = [i for i, line in enumerate(said) if re.search(FAULTS[fault], line)]
        assert any(i > named[-1] for i in continues)
    assert all(
        re.match(r"worker 0 continues after waiting \d+ s for worker 1\.", said[i])
        for i in continues
    )


def test_the_worker_at_fault_does_not_blame_the_one_that_waits(lines: list[str]) -> None:
    blames = [line for line in said_by(1, lines) if ". worker 0 waits " in line]
    # On a busy machine it may truly have waited for worker 0 to come to `fit`.
    assert [line for line in blames if not re.match(ALONE, line)] == []


def test_how_to_end_a_job_is_said_once(lines: list[str]) -> None:
    assert sum("tfscale.callbacks.Watchdog" in line for line in said_by(0, lines)) == 1


@pytest.mark.thorough
def test_a_worker_that_is_stopped_is_named_before_tensorflow_gives_it_up(tmp_path: Path) -> None:
    said = said_by(0, run(tmp_path, "stop"))
    named = [line for line in said if re.search(STOPPED, line)]
    assert named, said
    waited = re.match(r"worker 0 has waited (\d+) s", named[0])
    assert waited is not None
    assert int(waited[1]) < 20
