from __future__ import annotations

from typing import Any

import pytest

from tfscale.doctor.finding import Finding
from tfscale.doctor.peers.findings import compared_versions, examine_peers

VERSIONS = {"python": "3.12.1", "tensorflow": "2.21.0", "keras": "3.15.1"}
ADDRESSES = {f"worker {index}": f"10.0.0.{index}:2222" for index in range(4)}
SHARED = {"seen": True, "delay_seconds": 0.1, "torn_reads": 0}
LOCKS = {"fcntl": "kept", "flock": "kept"}


def seen(**changes: Any) -> dict[str, Any]:
    return {
        "reached": True,
        "round_trip_seconds": 0.001,
        "clock_ahead_seconds": 0.0,
        "host": "other",
        "versions": VERSIONS,
        "has_shared_dir": True,
        "shared": {**SHARED, "locks": LOCKS},
        **changes,
    }


def judged(
    row: dict[str, Any], others: dict[str, Any] | None = None, folder: str | None = "/shared"
) -> list[Finding]:
    """What worker 0 finds; by default all others reach each other."""
    whole = {peer: {"row": {"worker 0": seen()}, "figures": None} for peer in row}
    table = {**whole, **(others or {}), "worker 0": {"row": row, "figures": None}}
    return examine_peers(
        "worker 0", ADDRESSES, table, versions=VERSIONS, shared_dir=folder, seconds=30.0
    )


def test_tasks_that_reach_each_other_have_no_findings() -> None:
    assert judged({"worker 1": seen(), "worker 2": seen()}) == []


@pytest.mark.parametrize(
    ("failure", "words", "cure"),
    [
        ("name", "the name does not resolve (because)", "Correct the name"),
        ("refused", "nothing listens there (because)", "Start tfscale doctor --peers"),
        ("silent", "no answer (because)", "Open the port in the firewalls"),
        ("another program", "another program answers (because)", "End that program"),
        ("another task", "another task answers (because)", "the same cluster"),
        ("a word of a later version", "no answer (because)", "Open the port"),
    ],
)
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "other"])
def test_a_task_that_is_not_reached_is_a_problem_of_both(
    failure: str, words: str, cure: str, is_own: bool
) -> None:
    failed = {"reached": False, "failure": failure, "error": "because"}
    if is_own:
        (finding,) = judged({"worker 1": failed})
        assert "worker 1 at 10.0.0.1:2222 was not reached within 30 s" in finding.found
    else:
        (finding,) = judged({"worker 1": seen()}, {"worker 1": {"row": {"worker 0": failed}}})
        assert "worker 1 does not reach this task, worker 0 at 10.0.0.0:2222" in finding.found
    assert finding.is_problem
    assert words in finding.found
    assert cure in finding.cure


def test_a_task_that_tells_nothing_is_a_remark() -> None:
    (finding,) = judged({"worker 1": seen()}, {"worker 1": None})
    assert not finding.is_problem


@pytest.mark.parametrize(
    ("ahead", "found"),
    [
        pytest.param([0.9], [], id="below a second"),
        pytest.param([-1.1], ["The clock of worker 1 (other) is 1.1 s behind that of this task."]),
        pytest.param(
            [0.0, 7.0, 0.1],
            ["The clock of worker 2 (other) is 7.0 s ahead of that of this task."],
            id="one of four",
        ),
        pytest.param(
            [5.0, 5.0, 5.1],
            ["The clock of this host is 5.0 s behind those of most other tasks."],
            id="this one of four",
        ),
    ],
)
def test_clocks_that_differ_by_more_than_a_second_are_a_problem(
    ahead: list[float], found: list[str]
) -> None:
    row = {f"worker {i}": seen(clock_ahead_seconds=a) for i, a in enumerate(ahead, start=1)}
    assert [each.found for each in judged(row)] == found


def test_a_slow_network_is_not_a_wrong_clock() -> None:
    # Half of the round trip is the error of the offset.
    assert judged({"worker 1": seen(clock_ahead_seconds=1.4, round_trip_seconds=1.0)}) == []


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({**VERSIONS, "keras": "3.14.0"}, "keras is 3.14.0 on worker 1 (other) and 3.15.1 here."),
        ({**VERSIONS, "tfscale": "1.0"}, "tfscale is 1.0 on worker 1 (other) and not installed he"),
        (
            {"python": "3.12.1", "keras": "3.15.1"},
            "tensorflow is not installed on worker 1 (other) and 2.21.0 here.",
        ),
    ],
)
def test_other_versions_are_a_problem(versions: dict[str, str], found: str) -> None:
    (finding,) = judged({"worker 1": seen(versions=versions)})
    assert finding.is_problem
    assert finding.found.startswith(found)


def test_a_wheel_of_tensorflow_is_tensorflow() -> None:
    installed = {"python": "3.12.1", "tensorflow-cpu": "2.21.0", "keras": "3.15.1", "numpy": "2"}
    assert compared_versions(installed) == VERSIONS


@pytest.mark.parametrize(
    ("shared", "is_problem", "words"),
    [
        (None, True, "worker 1 was started without --shared_dir"),
        ({"seen": False}, True, "worker 1 does not see the files that this task writes to /shared"),
        ({"seen": False, "error": "Stale"}, True, "writes to /shared (Stale)."),
        (
            {**SHARED, "locks": {**LOCKS, "flock": "ignored"}},
            True,
            "gets a flock lock that this ta",
        ),
        ({**SHARED, "locks": {**LOCKS, "fcntl": "No locks"}}, True, "worker 1 says No locks."),
        ({**SHARED, "locks": LOCKS, "torn_reads": 3}, True, "missing or mixed one in 3 reads"),
        (
            {**SHARED, "locks": LOCKS, "delay_seconds": 4.0},
            False,
            "sees a new file in /shared afte",
        ),
    ],
)
def test_a_folder_that_is_not_shared_well_is_named(
    shared: dict[str, Any] | None, is_problem: bool, words: str
) -> None:
    row = {"worker 1": seen(shared=shared)}
    (finding,) = judged(row)
    assert (finding.is_problem, words in finding.found) == (is_problem, True), finding.found
    assert judged(row, folder=None) == []


def test_an_evaluator_that_the_others_do_not_know_is_reached_by_no_one() -> None:
    table: dict[str, Any] = {"evaluator 0": {"row": {"worker 1": seen()}}}
    table["worker 1"] = {"row": {}}
    findings = examine_peers(
        "evaluator 0", ADDRESSES, table, versions=VERSIONS, shared_dir=None, seconds=30.0
    )
    assert findings == []
