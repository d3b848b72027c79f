from __future__ import annotations

import pytest

from tfscale.launch import WorkerFailure
from tfscale.launch.restarts import NoRestart, Restart, RestartPolicy

EARLY, LATE = 2.0, 300.0


def failure(seconds: float, returncode: int = 1) -> WorkerFailure:
    return WorkerFailure(worker=0, returncode=returncode, seconds=seconds)


@pytest.mark.parametrize(
    ("failures", "decision"),
    [
        pytest.param([failure(LATE)], Restart(1.0, 1, free=False), id="the first"),
        pytest.param([failure(LATE)] * 3, Restart(1.0, 3, free=False), id="as many as allowed"),
        pytest.param([failure(LATE)] * 4, NoRestart("3 of 3 restarts are used"), id="one too many"),
        pytest.param([failure(LATE, 42)], Restart(1.0, 0, free=True), id="preempted"),
        pytest.param(
            [*[failure(LATE, 42)] * 50, *[failure(LATE)] * 3],
            Restart(1.0, 3, free=False),
            id="preemptions use none up",
        ),
        pytest.param(
            [*[failure(LATE)] * 3, failure(LATE, 42)],
            Restart(1.0, 3, free=True),
            id="a preemption is free when all are used",
        ),
        pytest.param([failure(EARLY)], Restart(1.0, 1, free=False), id="early"),
        pytest.param([failure(EARLY)] * 2, Restart(2.0, 2, free=False), id="early again"),
        pytest.param(
            [failure(EARLY), failure(LATE), failure(EARLY), failure(EARLY, 42)],
            Restart(2.0, 3, free=True),
            id="a late one ends the row",
        ),
        pytest.param([failure(20.0)] * 3, Restart(1.0, 3, free=False), id="20 s is late"),
    ],
)
def test_what_follows_a_failure(
    failures: list[WorkerFailure], decision: Restart | NoRestart
) -> None:
    policy = RestartPolicy(max_restarts=3, early_seconds=20.0, first_wait_seconds=1.0)
    assert policy.decide(failures) == decision


@pytest.mark.parametrize("returncode", [1, 42, -9])
def test_three_early_ends_in_a_row_are_the_last(returncode: int) -> None:
    decision = RestartPolicy(max_restarts=9).decide([failure(EARLY, returncode)] * 3)
    assert isinstance(decision, NoRestart)
    assert "3 times in a row the job ended within 20 s of its start" in str(decision.reason)


def test_nothing_is_restarted_that_nobody_asked_for() -> None:
    assert RestartPolicy().decide([failure(LATE, 42)]) == NoRestart(None)


@pytest.mark.parametrize(
    ("max_restarts", "early_seconds", "message"),
    [
        (-1, 20.0, r"`max_restarts` must be .* Received: max_restarts=-1\."),
        (True, 20.0, r"`max_restarts` must be"),
        (1, -1.0, r"`early_seconds` must be .* Received: early_seconds=-1\.0\."),
        (1, float("nan"), r"`early_seconds` must be"),
    ],
)
def test_impossible_policies_are_refused(
    max_restarts: int, early_seconds: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RestartPolicy(max_restarts, early_seconds)
