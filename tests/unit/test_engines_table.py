"""`make engines` counts what passed, failed and was skipped, and ends with the right status."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.engines import __main__ as engines
from tests.engines.outcome import outcome_of, table

TESTS = """
import pytest

pytestmark = pytest.mark.engines


def test_passes():
    pass


@pytest.mark.parametrize("number", [1, 2])
def test_is_skipped(number):
    pytest.skip("no daemon here")
"""
FAILS = """

@pytest.fixture
def daemon():
    raise OSError("it does not start")


def test_fails():
    assert False


def test_cannot_start(daemon):
    pass
"""


def ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], text: str
) -> tuple[int, list[str]]:
    """Returns the status, and the lines from the head of the table on."""
    (tmp_path / "test_one.py").write_text(text)
    monkeypatch.setattr(sys, "argv", ["tests.engines"])
    status = engines.main({"one": str(tmp_path)})
    lines = capfd.readouterr().out.splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("engine "))
    return status, lines[head:]


def test_passed_and_skipped_tests_are_a_success_that_says_why_some_were_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    status, lines = ended(tmp_path, monkeypatch, capfd, TESTS)
    assert status == 0
    assert lines[0].split() == ["engine", "passed", "failed", "skipped", "seconds"]
    assert lines[1].split()[:4] == ["one", "1", "0", "2"]
    assert lines[2].startswith("one: 2 skipped: no daemon here")
    assert lines[3:] == ["engines: passed"]


def test_failures_and_fixtures_that_fail_are_named_and_give_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    status, lines = ended(tmp_path, monkeypatch, capfd, TESTS + FAILS)
    assert status == 1
    assert lines[1].split()[:4] == ["one", "1", "2", "2"]
    assert lines[2:4] == ["one: failed: test_fails", "one: failed: test_cannot_start"]
    assert lines[-1] == "engines: FAILED"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(5, "pytest ended with status 5", id="no tests"),
        pytest.param(0, "pytest ended with status 0", id="no record"),
        pytest.param(None, "the tests did not end in time", id="too long"),
    ],
)
def test_tests_that_did_not_run_to_their_end_are_a_failure(
    tmp_path: Path, status: int | None, said: str
) -> None:
    outcome = outcome_of("ray", tmp_path / "missing.xml", status, 3.2, "install.sh failed")
    assert outcome.is_failure
    assert table([outcome]).splitlines()[1:] == [
        "ray                0       0        0        3",
        f"ray: install.sh failed; {said}",
        "engines: FAILED",
    ]
