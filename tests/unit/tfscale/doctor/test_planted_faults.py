"""`tfscale doctor` names each planted fault with its cure, and finds none on healthy set-ups."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.doctor_faults import (
    PEERS_SECONDS,
    Doctor,
    Unavailable,
    cable,
    control_group,
    namespace_workers,
    report_of_first,
    reports,
)
from tests.planted_faults import FAULTS, Fault, words_of
from tests.programs import completed

ROWS = [
    pytest.param(row, id=row.name, marks=[pytest.mark.thorough] * row.is_thorough) for row in FAULTS
]


@pytest.mark.parametrize("row", ROWS)
def test_a_planted_fault_is_named_with_its_cure(row: Fault, tmp_path: Path) -> None:
    try:
        with row.plant(tmp_path) as doctors:
            status, report = report_of_first(doctors)
    except Unavailable as error:
        pytest.skip(str(error))
    naming = [p for p in report["problems"] if all(word in p for word in words_of(row))]
    assert (status, len(naming)) == (1, 1), report["problems"]


def test_fifteen_faults_or_more_are_planted_each_time() -> None:
    assert len({row.name for row in FAULTS if not row.is_thorough}) >= 15


def test_a_healthy_host_has_no_problem() -> None:
    ((status, report),) = reports([Doctor(("--only=wheels,cluster,host,storage,accelerators",))])
    assert (status, report["problems"]) == (0, [])


def test_two_healthy_workers_have_no_problem(tmp_path: Path) -> None:
    flags = ["--peers", f"--peers_seconds={PEERS_SECONDS:g}", f"--shared_dir={tmp_path}", "--json"]
    doctor = [sys.executable, "-m", "tfscale", "doctor", "--only=cluster,host,storage", *flags]
    done = completed(
        "-m", "tfscale", "launch", "--num_workers=2", "--", *doctor, timeout=2 * PEERS_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for worker, other in (("worker 0", "worker 1"), ("worker 1", "worker 0")):
        prefix = f"[{worker}] "
        lines = [line for line in done.stdout.splitlines() if line.startswith(prefix)]
        report = json.loads("\n".join(line.removeprefix(prefix) for line in lines))
        assert report["problems"] == []
        assert report["peers"]["task"] == worker
        assert list(report["peers"]["tasks"]) == ["worker 0", "worker 1"]
        seen = report["peers"]["tasks"][worker][other]
        assert seen["shared"]["locks"] == {"fcntl": "kept", "flock": "kept"}
        assert seen["shared"]["torn_reads"] == 0
        assert seen["round_trip_seconds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_two_healthy_hosts_have_no_problem() -> None:
    try:
        with cable() as made:
            found = reports(namespace_workers(made))
    except Unavailable as error:
        pytest.skip(str(error))
    assert [(status, report["problems"]) for status, report in found] == [(0, []), (0, [])]
    assert found[0][1]["peers"]["tasks"]["worker 1"]["worker 0"]["reached"]


def test_a_healthy_container_has_no_problem() -> None:
    try:
        with (
            control_group("memory", {"memory.max": "4000002048"}) as limited,
            control_group("cpu", {"cpu.max": "400000 100000"}) as shared,
        ):
            ((status, report),) = reports([Doctor(("--only=host",), before=(*limited, *shared))])
    except Unavailable as error:
        pytest.skip(str(error))
    assert (status, report["problems"]) == (0, [])
    assert report["host"]["cpus"]["quota"] == 4
    assert report["host"]["memory"]["limit_bytes"] == 4000002048 // 4096 * 4096
