"""`tfscale plan --what=speed`: the table, JSON, the picture, wrong flags; a real measurement."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.programs import run_program
from tests.unit.tfscale.plan.speed.test_predicting import MEASURED
from tfscale.__main__ import main
from tfscale.plan.speed.measured import MeasuredSpeed
from tfscale.plan.speed.measuring import SIZES, measure_speed

SOURCE = """
import keras
import numpy as np


def build():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(4)])
    model.compile("adam", "mse")
    return model, (np.ones((64, 8), "float32"), np.ones((64, 4), "float32"))
"""
PLAN = ("plan", "mine:build", "--what=speed")


@pytest.fixture(autouse=True)
def _with_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MEASURED.write(tmp_path / "measured.json")
    monkeypatch.chdir(tmp_path)


def test_a_table_of_every_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--measured=measured.json", "--examples=4320000", "--cost_per_hour=2.5")
    assert main([*PLAN, *flags, "--picture=speed.svg"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "a step of 1 replica: 10 ms + 1,000 us for each row of a replica"
    (row,) = (line for line in lines if line.split()[:2] == ["ring", "2"])
    expected = ["ring", "2", "2", "60", "50", "50", "to", "56", "80%", "1,200", "compute", "60%"]
    assert row.split() == [*expected, "1", "5"]
    (last,) = (line for line in lines if line.split()[:2] == ["~ring", "4,096"])
    assert "communication 100%" in last
    assert ET.parse("speed.svg").getroot().tag.endswith("svg")


def test_json_has_what_was_measured_and_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--measured=measured.json", "--strategies=ring,pipeline", "--workers=2", "--json")
    assert main([*PLAN, *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["strategy"] for each in found["predictions"]] == ["ring", "pipeline"]
    ring = found["predictions"][0]
    assert ring["parts"]["communication"] == pytest.approx(0.010)
    assert "Hockney 1994" in ring["formula"]
    assert found["measured"]["pack_bytes"] == [4000, 8000]


def test_json_has_the_hours_and_the_cost_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--measured=measured.json", "--strategies=ring", "--workers=2", "--json")
    assert main([*PLAN, *flags, "--examples=4320000", "--cost_per_hour=2.5"]) == 0
    (ring,) = json.loads(capsys.readouterr().out)["predictions"]
    assert (ring["hours"], ring["cost"]) == pytest.approx((1.0, 5.0))


def test_the_table_names_the_link_that_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--measured=measured.json", "--strategies=ring", "--gbits=10", "--latency_us=30")
    assert main([*PLAN, *flags]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "message" in line]
    begin = "a message between workers: 30 us + its bytes at 1,192 MiB/s, as given; "
    assert lines == [begin + "a step of several costs its all-reduces only"]


def test_a_link_of_a_data_sheet_replaces_the_measured_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--measured=measured.json", "--strategies=local_updates", "--workers=2", "--json")
    assert main([*PLAN, *flags, "--every=1", "--gbits=0.008", "--latency_us=1000"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["predictions"]
    # As in MEASURED: 10^6 bytes a second and 1 ms; 36000 bytes of state.
    assert only["step_seconds"] == pytest.approx(0.040 + 0.038)
    assert only["is_extrapolated"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--measured=measured.json", "--shard=1"], "`--shard` must come with --what=memory"),
        (["--measured=none.json"], "none.json"),
        (["--measured=measured.json", "--cost_per_hour=2"], "must come with --examples"),
        (["--measured=measured.json", "--gbits=2"], "must come with --latency_us"),
        (["--measured=measured.json", "--measure_rows=1,2"], "must not come with --measured"),
        (["--measure_rows=8"], "must be at least two numbers"),
        (["--strategies=rings"], "must be of mirrored, ring"),
        (["--measured=measured.json", "--rows=0"], "must be a positive integer"),
        (["--gbits=1e-320", "--latency_us=1"], "argument --gbits: must be from 1e-6 to 1e6"),
        (["--gbits=1", "--latency_us=1e308"], "argument --latency_us: must be from 0 to 1e9"),
        # Said before a minute of measuring.
        (["--write_measured=none/a.json"], "none/a.json could not be written"),
        (["--picture=none/a.svg"], "none/a.svg could not be written"),
        (
            ["--measured=measured.json", "--global_batch_size=2", "--workers=4"],
            "`--workers` must be such that a step can be predicted",
        ),
        (
            ["--measured=measured.json", "--strategies=mirrored", "--workers=4"],
            "mirrored has 1 worker",
        ),
        (["--measured=measured.json", "--rows=2", "--global_batch_size=4"], "must be left out"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*PLAN, *flags])
    except SystemExit as end:
        status = int(end.code or 0)
    (error,) = capsys.readouterr().err.splitlines()
    assert status == 2
    assert error.startswith("tfscale plan: ")
    assert message in error


def test_measurements_of_another_model_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "its:build", "--what=speed", "--measured=measured.json"]) == 2
    assert "`measured` must be of its:build" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": [8, 8]}, "`rows` must be at least two different numbers of rows"),
        ({"rows": [8, 0]}, "`rows` must be"),
        ({"sizes": [4096]}, "`sizes` must be at least two different numbers of bytes"),
        ({"replicas": [2]}, "`replicas` must begin with 1"),
        ({"seconds": 0.0}, "`seconds` must be positive"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_speed("mine:build", **arguments)


@pytest.mark.thorough
def test_a_real_model_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    lines: list[str] = []
    found = measure_speed("mine:build", rows=[8, 16], say=lines.append)
    assert found is not None
    assert lines == ["steps of 1 replica", "steps of 2 replicas"]
    # Dense(8 -> 6) and Dense(6 -> 4) in float32; Adam has two slots, and scalars of 8 and 4 bytes.
    assert found.pack_bytes == (328,)
    assert (found.parameter_bytes, found.state_bytes) == (328, 3 * 328 + 12)
    assert {(each.replicas, each.rows) for each in found.steps} == {
        *((1, 8), (1, 16)),
        *((2, 8), (2, 16)),
    }
    assert all(time > 0 for each in found.steps for time in each.seconds)
    found.write(tmp_path / "found.json")
    assert MeasuredSpeed.read(tmp_path / "found.json") == found


@pytest.mark.thorough
def test_a_model_that_fails_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("def build():\n    raise KeyError('no file')\n")
    assert main([*PLAN]) == 2
    assert "raised KeyError: 'no file'" in capsys.readouterr().err


@pytest.mark.thorough
def test_two_workers_measure_their_link(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    plan = ("-m", "tfscale", *PLAN, "--measure_rows=8,16", f"--write_measured={tmp_path}/two.json")
    launch = ("-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable)
    flags = ("--strategies=ring", "--workers=2", "--rows=8")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    printed = run_program(*launch, *plan, *flags, timeout=240, PYTHONPATH=path)
    (row,) = (line for line in printed.splitlines() if line.split()[2:5] == ["ring", "2", "2"])
    assert row.startswith("[worker 0]")
    found = MeasuredSpeed.read(tmp_path / "two.json")
    assert [each.bytes for each in found.reduces] == list(SIZES)
    assert {each.workers for each in found.reduces} == {2}
    assert [each.bytes for each in found.small_steps] == [2**12, 2**21]
    # A worker has one replica on CPUs.
    assert {(each.replicas, each.rows) for each in found.steps} == {(1, 8), (1, 16)}
    link = found.link_law()
    assert link is not None
    assert link.message(2**20) > 0  # on a busy machine not more with more bytes
