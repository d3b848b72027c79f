"""Without a Watchdog, a worker that waits names the one it waits for, and no job is ended.

One job has all faults, one after the other. A worker that is stopped has a separate job.

On a busy machine a worker may truly wait more often than the faults make it, see a heartbeat of
the other that is a few seconds old, and so name it at the second notice. The tests allow that.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.programs import lines_of, started
from tests.workers.job import DEADLINE_SECONDS, launch

NOTICE_SECONDS = 2
MOST_SECONDS = 20
"""A wait is named by then on a machine that is very busy, long before the default of 30 s."""
HELD = r"\(job\.py:\d+ in wait_for\)"
FAULTS = {
    "callback": r"in the all-reduce of epoch 1, step 5, for worker 1\. worker 1 is in the callback "
    rf"OnOneWorker\.on_train_batch_end, epoch 1, step 4 {HELD}",
    "input": r"in the all-reduce of epoch 1, step 4, for worker 1\. worker 1 reads its input, "
    rf"epoch 1, step 4 {HELD}",
    "epoch end": r"at 'stop after this epoch\?' for worker 1\. worker 1 is in the callback "
    rf"OnOneWorker\.on_epoch_end, epoch 1, step 8 {HELD}",
    "outside": r"at 'fit\(\)' for worker 1\. worker 1 is outside of fit, evaluate and predict "
    rf"{HELD}",
    "evaluate": r"in the all-reduce of epoch 1, step 5, for worker 1\. worker 1 waits at "
    r"'evaluate\(\)' in the callback OnOneWorker\.on_train_batch_end",
}
"""What worker 0 says of each fault of worker 1. The last one ends the job."""
ENDED = [*FAULTS][:-1]
UNMATCHED = (
    r"worker 1 has waited \d+ s at a call that the others did not make\. worker 1 waits at "
    r"'evaluate\(\)' .*; worker 0 waits for the other workers in an all-reduce, epoch 1, step 5"
)
STOPPED = r"in the all-reduce of epoch 1, step 5, for worker 1\. worker 1 has not answered"
LAST = {"evaluate": (FAULTS["evaluate"], UNMATCHED), "stop": (STOPPED,)}
"""Lines that must all have come before the job is ended."""
CONTINUES = r"^\[worker 0\] tfscale: worker 0 continues after waiting \d+ s for worker 1\."


def run(folder: Path, *faults: str) -> list[str]:
    """Runs a job until its last fault is named by all that wait; returns its lines.

    A fault is ended when it has been named, and the next one begins when worker 0 continues.
    """
    awaited: list[tuple[str, Path]] = []
    for fault in faults[:-1]:
        path = folder / fault.replace(" ", "-")
        awaited += [(FAULTS[fault], path), (CONTINUES, Path(f"{path}-over"))]
    last = set(LAST[faults[-1]])
    process = started(
        *launch("waiting", str(folder), *faults), TFSCALE_NOTICE_SECONDS=str(NOTICE_SECONDS)
    )
    lines: list[str] = []
    for line in lines_of(process, DEADLINE_SECONDS):
        lines.append(line)
        if awaited and re.search(awaited[0][0], line):
            awaited.pop(0)[1].touch()
        elif not awaited and last:
            last -= {pattern for pattern in last if re.search(pattern, line)}
            if not last:
                process.terminate()
    return lines


def said_by(worker: int, lines: list[str]) -> list[str]:
    """Returns what a worker says of its waits, in order."""
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
    moves = r"(has not moved for \d+ s|has sent no heartbeat for \d+ s|moves)"
    pattern = rf"worker 0 has waited (\d+) s {FAULTS[fault]}.* and {moves}\. [LC]"
    found = [match for line in said_by(0, lines) if (match := re.match(pattern, line))]
    assert found, "".join(lines[-60:])
    assert NOTICE_SECONDS <= int(found[0][1]) <= MOST_SECONDS


def test_a_worker_that_makes_a_call_without_the_others_says_so_itself(lines: list[str]) -> None:
    assert [line for line in said_by(1, lines) if re.match(UNMATCHED, line)], "".join(lines[-60:])


@pytest.mark.parametrize("fault", ENDED)
def test_a_fault_that_was_named_and_ended_is_followed_by_continues(
    lines: list[str], fault: str
) -> None:
    named = [i for i, line in enumerate(lines) if re.search(FAULTS[fault], line)]
    assert any(re.match(CONTINUES, line) for line in lines[named[-1] + 1 :]), "".join(lines[-60:])


def test_that_a_worker_continues_is_said_once_after_a_wait(lines: list[str]) -> None:
    said = said_by(0, lines)
    continues = [i for i, line in enumerate(said) if "continues after" in line]
    assert len(continues) >= len(ENDED), "".join(lines[-60:])
    assert all("has waited" in said[i - 1] for i in continues), "".join(lines[-60:])


def test_the_worker_at_fault_does_not_blame_the_one_that_waits(lines: list[str]) -> None:
    """Worker 1 is at fault from its line "waits for" to the line in which worker 0 names it."""
    is_at_fault, blames = False, []
    for line in lines:
        if line.startswith("[worker 1] waits for the file "):
            is_at_fault = True
        elif any(re.search(FAULTS[fault], line) for fault in ENDED):
            is_at_fault = False
        elif is_at_fault and re.search(r"worker 1 has waited .*\. worker 0 waits ", line):
            blames.append(line)
    assert blames == []
    assert sum(line.startswith("[worker 1] waits for the file ") for line in lines) == len(ENDED)


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
