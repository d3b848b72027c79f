from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from strategies.extension import Deadline
from tests.ports import free_ports
from tfscale.doctor.peers.protocol import Listener
from tfscale.doctor.peers.row import clock_of, learn
from tfscale.doctor.peers.shared_folder import answer_about, compare_folder

HELLO = {"task": "worker 0", "jobs": {"worker": ["a:1", "b:1"]}}


def test_the_offset_of_a_clock_is_that_of_the_shortest_round_trip() -> None:
    trips = iter([0.0, 0.05, 0.0, 0.03, 0.0, 0.0, 0.0, 0.0])

    def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
        time.sleep(next(trips))  # on one way only, which shifts the estimate by half of it
        now = time.time() + 5.0
        return {"received": now, "sent": now}

    found = clock_of(ask)
    assert found["clock_ahead_seconds"] == pytest.approx(5.0, abs=0.005)


@pytest.mark.parametrize(
    ("hello", "failure", "words"),
    [
        (
            {"task": "worker 0", **{"jobs": HELLO["jobs"]}},
            "another task",
            "says that it is worker 0",
        ),
        (
            {"task": "worker 1", "jobs": {"worker": ["x:1"]}},
            "another task",
            "another cluster: {'wo",
        ),
        ({}, "another task", "another cluster: None"),
    ],
)
def test_another_task_at_the_address_is_no_success(
    hello: dict[str, Any], failure: str, words: str
) -> None:
    (port,) = free_ports(1)
    with Listener(port, lambda question: hello):
        found = learn(
            "worker 1", f"127.0.0.1:{port}", hello=HELLO, deadline=Deadline(0.0), shared_dir=None
        )
    assert (found["reached"], found["failure"]) == (False, failure)
    assert words in found["error"]


@pytest.mark.parametrize("answer", [{}, {"received": "soon", "sent": 1}, {"received": None}])
def test_an_answer_that_makes_no_sense_is_no_success(answer: dict[str, Any]) -> None:
    hello = {"task": "worker 1", "jobs": HELLO["jobs"]}
    (port,) = free_ports(1)
    with Listener(port, lambda question: hello if question["ask"] == "hello" else answer):
        found = learn(
            "worker 1", f"127.0.0.1:{port}", hello=HELLO, deadline=Deadline(0.0), shared_dir=None
        )
    assert not found["reached"]


def test_a_file_is_written_locked_and_replaced_while_the_other_looks(tmp_path: Path) -> None:
    # In one process: flock locks belong to the open file, so they are kept; those of fcntl belong
    # to the process. Two processes: test_planted_faults.
    found = compare_folder(tmp_path, lambda question: answer_about(tmp_path, question))
    assert found["seen"]
    assert found["locks"] == {"fcntl": "ignored", "flock": "kept"}
    assert found["torn_reads"] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", ".tfscale-doctor-peers-xyz", "", None, 7, ["a"]]
)
def test_a_question_can_name_no_other_file(name: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the name of a file of this exchange"):
        answer_about(tmp_path, {"ask": "read", "file": name})


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    name = f".tfscale-doctor-peers-{'0' * 32}"
    (tmp_path / name).symlink_to(tmp_path / "secret")
    for question in ({"ask": "read"}, {"ask": "lock", "kind": "flock"}):
        said = answer_about(tmp_path, {**question, "file": name})
        assert "symbolic links" in str(said)


def test_a_task_without_the_folder_says_so() -> None:
    question = {"ask": "see", "file": f".tfscale-doctor-peers-{'0' * 32}"}
    assert answer_about(None, question) == {"error": "it was started without --shared_dir"}
