"""Which worker is at fault, for constructed exits."""

from __future__ import annotations

import pytest

from strategies.cluster.exit_reason import ExitReason
from tfscale.launch.outcome import Outcome, Task, WorkerFailure, at_fault

OWN = ExitReason("ValueError: a row of letters", is_own=True)
OF_1 = ExitReason("AbortedError: aborted by worker 1", is_own=False, at_fault="worker 1")
OF_SOMEONE = ExitReason("UnavailableError: Socket closed", is_own=False)


def task(
    worker: int, returncode: int | None, ended: float | None, words: ExitReason | None = None
) -> Task:
    return Task(worker, f"worker {worker}", 0.0, returncode, ended, words)


def running(worker: int, words: ExitReason | None = None) -> Task:
    return task(worker, None, None, words)


@pytest.mark.parametrize(
    ("tasks", "worker"),
    [
        pytest.param([running(0), task(1, -9, 5.0)], 1, id="killed"),
        pytest.param([running(0), task(1, 3, 5.0)], 1, id="ended with a status, without a word"),
        pytest.param([running(0), task(1, 1, 5.0, OWN)], 1, id="failed by itself"),
        pytest.param([task(0, 1, 4.0, OF_1), task(1, 1, 5.0, OWN)], 1, id="ended after its victim"),
        pytest.param([task(0, -6, 4.0), task(1, -9, 5.0)], 1, id="TensorFlow aborted the other"),
        pytest.param([task(0, -6, 5.0, OF_1), task(1, -6, 4.0)], 1, id="aborted, and named"),
        pytest.param([task(0, 1, 4.0, OWN), task(1, 1, 3.0, OWN)], 1, id="the first of two"),
        pytest.param([task(0, 0, 1.0), task(1, 7, 3.0)], 1, id="the other ended well"),
        pytest.param([task(0, 1, 4.0, OF_SOMEONE), task(1, 1, 9.0, OWN)], 1, id="not named"),
    ],
)
def test_the_worker_that_failed_by_itself_or_is_named_is_at_fault(
    tasks: list[Task], worker: int
) -> None:
    failure = at_fault(tasks, is_late=False)
    assert failure is not None
    assert failure.worker == worker


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param([task(0, 1, 4.0, OF_1), running(1)], id="the one that is named runs"),
        pytest.param([task(0, 1, 4.0, OF_SOMEONE), running(1)], id="no one is named"),
        pytest.param([task(0, -6, 4.0), running(1)], id="aborted, by whom is not known"),
        pytest.param([task(0, 1, 4.0, OF_1), running(1, OWN)], id="about to end"),
    ],
)
def test_what_is_not_clear_is_waited_for(tasks: list[Task]) -> None:
    assert at_fault(tasks, is_late=False) is None
    assert at_fault(tasks, is_late=True) is not None


def test_a_worker_that_does_not_end_is_named_by_the_one_that_gave_it_up() -> None:
    failure = at_fault([task(0, 1, 20.0, OF_1), running(1)], is_late=True)
    assert str(failure) == (
        "worker 1 failed first: worker 0 ended because of it (AbortedError: aborted by worker 1), "
        "exit status 1 after 20.0 s, before it did"
    )
    assert failure is not None
    assert failure.status == 1


def test_a_worker_that_takes_long_to_end_is_named_with_its_own_words() -> None:
    failure = at_fault([task(0, 1, 20.0, OF_1), running(1, OWN)], is_late=True)
    assert str(failure).startswith(
        "worker 1 failed first: worker 0 ended because of it (ValueError: a row of letters), exit"
    )


def test_a_preempted_worker_is_not_called_failed() -> None:
    preempted = WorkerFailure(worker=1, returncode=42, seconds=5.0)
    assert str(Outcome(preempted)) == (
        "worker 1 was preempted, all saved (exit status 42 after 5.0 s); the whole job was ended"
    )


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ("ValueError: a row of letters.", "ValueError: a row of letters"),
        ("ValueError: a row of...", "ValueError: a row of..."),
    ],
)
def test_a_cause_that_was_cut_keeps_its_mark(why: str, shown: str) -> None:
    failure = WorkerFailure(worker=1, returncode=1, seconds=5.0, why=why)
    assert str(failure) == f"worker 1 failed first: exit status 1 after 5.0 s ({shown})"


def test_a_worker_of_another_host_leaves_the_blame_where_the_first_failed() -> None:
    named = ExitReason("AbortedError: aborted by worker 5", is_own=False, at_fault="worker 5")
    failure = at_fault([task(0, 1, 4.0, named), running(1)], is_late=True)
    assert str(failure) == (
        "worker 0 failed first: exit status 1 after 4.0 s (AbortedError: aborted by worker 5)"
    )
