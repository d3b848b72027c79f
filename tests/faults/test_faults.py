"""The harness finds what was lost, what noticed it and what is left; one chain is really killed."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.faults import resume, traces
from tests.faults.catalogue import chosen
from tests.faults.fault import Fault, Report, nothing
from tests.faults.interruption import (
    SAVE_HALF,
    SAVES,
    STEP,
    VALIDATION,
    Interruption,
    drawn,
)
from tests.faults.job import Line
from tests.faults.known_times import compared, known_times
from tests.faults.notes import distance, rows_noted
from tests.faults.resume import Chain
from tests.faults.table import BEGIN, END, FAULTS, fault_line, updated
from tests.faults.timeline import lost, names, noticed, recovered
from tests.faults.training import ONE_DEVICE, WORKERS, Training
from tests.programs import started
from tfscale.monitor.time_kinds import KINDS

OUTPUT = [
    (0.0, "[worker 0] faults: resumed at 0"),
    (1.0, "[worker 1] faults: step 7"),
    (1.1, "[worker 0] faults: step 8"),
    # The fault is at 2.0.
    (2.5, "[worker 0] tfscale: watchdog: worker 1 does not answer; last seen at epoch 0, step 7"),
    (3.0, "[worker 0] UnavailableError: /job:worker/replica:0/task:1 heartbeat timeout"),
    (4.0, "tfscale launch: worker 0 failed first: exit status 1. Restart in 1 s"),
    (9.0, "[worker 0] faults: resumed at 3"),
    (9.5, "[worker 0] faults: step 4"),
]
LINES = [Line(at, text) for at, text in OUTPUT]


def test_the_lines_show_who_noticed_and_what_was_lost() -> None:
    assert noticed(LINES, 2.0) == 0.5
    assert names(LINES, 2.0, 1) == ("watchdog (0.5 s)", "TensorFlow (1.0 s)")
    assert names(LINES, 2.0, 0) == ("launcher (2.0 s)",)
    assert lost(LINES) == 5
    assert recovered(LINES, 2.0) == 7.5
    assert recovered(LINES[:-2], 2.0) is None


def test_the_time_of_a_killed_job_is_known_from_its_lines() -> None:
    texts = [
        (0.0, "faults: python runs"),
        (4.0, "faults: process 7 {}"),
        (5.0, "faults: resumed at 0"),
        (6.0, "faults: epochs begin"),
        (9.0, "faults: step 1"),  # with its compilation
        (10.0, "faults: step 2"),
        (11.0, "faults: step 3"),
        # Killed at 11.75.
        (13.0, "faults: python runs"),  # and killed before its `fit`
        (20.0, "faults: python runs"),
        (21.0, "faults: process 8 {}"),
        (21.0, "faults: resumed at 2"),
        (22.0, "faults: epochs begin"),
        (24.0, "faults: step 3"),
        (24.5, "faults: fit is over: it ended"),
    ]
    lines = [Line(at, f"[worker 1] {text}") for at, text in texts]
    known = known_times([*LINES[:1], *lines], {7: 11.75}, 1)
    assert known == {"start": 8, "steps": 4 + 2.5, "lost work": 1 + 0.75, "stopped": 8.25}
    kinds = dict.fromkeys(KINDS, 0.0) | {"start": 7.5, "restore": 0.5, "step": 3.0, "compile": 3.5}
    rows, trouble = compared({**kinds, "lost_work": 1.75, "stopped": 7.0}, known)
    assert len(rows) == 4
    assert trouble == ["7.0 s of stopped recorded, 8.2 s known"]


def test_a_waiting_worker_notices_and_names_without_a_watchdog() -> None:
    said = (
        "[worker 0] tfscale: worker 0 has waited 30 s in the all-reduce of step 21, for worker 1."
    )
    lines = [Line(31.5, said)]
    assert noticed(lines, 1.0) == 30.5
    assert names(lines, 1.0, 1) == ("waiting worker (30.5 s)",)
    assert names(lines, 1.0, 0) == ()


@pytest.mark.parametrize("seed", range(20))
def test_interruptions_come_in_the_order_of_the_training(seed: int) -> None:
    found = drawn(seed, steps=14, validations=3, epochs=8)
    assert len(found) == 20
    assert [each.batch for each in found] == sorted(each.batch for each in found)
    assert {each.moment for each in found} == {STEP, VALIDATION, *SAVES}
    for each in found:
        assert each == Interruption.from_text(str(each)) or each.moment == STEP
        assert 1 <= each.batch < 64
        if each.moment == VALIDATION:
            assert each.batch % 8 == 0
        if each.moment in SAVES:
            assert each.batch % 3 == 0


def test_the_distance_of_numbers_is_relative_to_the_largest() -> None:
    right = np.array([4.0, 0.0])
    assert distance(right.copy(), right) == 0.0
    assert distance(np.array([4.0, 1e-3]), right) == 2.5e-4
    assert 0.0 < distance(np.array([4.0, -0.0]), right) < 1e-300
    for wrong in (np.array([4.0]), right.astype("float32"), np.array([4.0, np.nan])):
        assert distance(wrong, right) == np.inf


def test_rows_count_from_the_resumed_batch_and_half_a_batch_does_not_count(tmp_path: Path) -> None:
    training = Training(WORKERS, str(tmp_path))
    training.note("from", 0).write_text("5")
    training.note("rows", 0).write_text("0 [3 1]\n0 [2 7]\n")
    training.note("rows", 1).write_text("1 [9 4]\n1 [8")
    assert rows_noted(training) == {6: [3, 1, 9, 4]}


def test_the_line_of_a_failed_case_says_why() -> None:
    fault = Fault("a", "title | of it", lambda scene: Report(), nothing)
    line = fault_line(fault, Report(0.25, ("launcher (0.3 s)",), 2, 9.0, True))
    assert line == (
        "| title \\| of it | 0.2 s | launcher (0.3 s) | 2 | 9.0 s | the same bits | nothing |"
    )
    assert "| **no**: it hung |" in fault_line(fault, Report(trouble=("it hung",)))


def test_replacing_a_line_keeps_the_others() -> None:
    empty = f"a\n{BEGIN.format(FAULTS)}\n{END.format(FAULTS)}\nb\n"
    whole = updated(empty, FAULTS, "v", ["| x | 1 |", "| y | 2 |"], is_whole=True)
    part = updated(whole, FAULTS, "w", ["| y | 3 |", "| z | 4 |"], is_whole=False)
    assert re.findall(r"^\| (\w) \| (\d)", part, re.M) == [("x", "1"), ("y", "3"), ("z", "4")]
    assert part.startswith("a\n")
    assert part.endswith("\nb\n")
    with pytest.raises(ValueError, match="must contain the markers of the table"):
        updated("none", FAULTS, "v", [], is_whole=True)


def test_an_unknown_case_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no name contains 'flood'\. Choose from resume 1 device"):
        chosen("kill,flood")
    assert [fault.name for fault in chosen("kill").faults] == ["kill worker", "kill chief"]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_process_in_another_session_is_found_and_ended(tmp_path: Path) -> None:
    daemon = "import signal\nprint('up', flush=True)\nsignal.pause()"
    process = started("-S", "-c", daemon, **traces.marked(str(tmp_path)))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert traces.processes(str(tmp_path)) == [process.pid]
    assert traces.end_all(str(tmp_path)) == [process.pid]
    assert process.wait(timeout=30) == -9
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="ports are found in /proc")
def test_a_port_and_files_that_were_left_are_found(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert traces.listening({port, 1}) == [port]
    assert traces.listening({port, 1}) == []
    for name in ("run/.step-3.partial/x", "tmp/left", "run/state.part", "run/step-3/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "run/.lease-1.json").write_text('{"state": "released"}')
    (tmp_path / "run/.lease-2.json").write_text('{"state": "holding"}')
    assert traces.files(tmp_path) == [
        "run/.lease-2.json",
        "run/.step-3.partial",
        "run/state.part",
        "tmp/left",
    ]


@pytest.mark.thorough
def test_a_training_killed_in_a_step_and_in_a_save_ends_with_the_same_bits(tmp_path: Path) -> None:
    killed = (Interruption(STEP, 8, 0.5), Interruption(SAVE_HALF, 12))
    found = resume.run(Chain("quick", (ONE_DEVICE,), "float32", killed), tmp_path)
    assert found.trouble == []
    assert 1 <= found.lost <= 6
