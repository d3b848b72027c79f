"""`tfscale plan`: exit statuses, the table, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfscale.__main__ import main

pytestmark = pytest.mark.own_process

SOURCE = """
import keras
import numpy as np


def build():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(4)])
    model.compile("adam", "mse")
    return model, (np.ones((16, 8), "float32"), np.ones((16, 4), "float32"))


def broken():
    raise KeyError("no file")
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planned_subject.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_table_marks_the_cheapest(capsys: pytest.CaptureFixture[str]) -> None:
    command = ("plan", "planned_subject:build", "--replicas=2", "--microbatches=1,2")
    assert main([*command, "--memory_per_device=16GiB"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "planned_subject:build: 82 trainable parameters on 2 devices of 16.0 GiB"
    rows = [
        line
        for line in lines
        if (line.rstrip().endswith(" B") and "backward" in line) or "reduce" in line
    ]
    assert [line[0] for line in lines if line.startswith("*")] == ["*"]
    assert len(rows) >= 1
    assert lines[-1].startswith("Cheapest: shard 0, 1 microbatch: ")
    assert "tfscale plan: tracing a step of 8 examples" in printed.err


def test_json_has_every_size_in_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--shard=0", "--microbatches=1", "--global_batch_size=8", "--json")
    assert main(["plan", "planned_subject:build", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_parameters"] == 82
    assert (found["global_batch_size"], found["replicas"], found["cheapest"]) == (8, 1, 0)
    (only,) = found["configurations"]
    assert set(only) == {
        *("shard", "precision", "microbatches", "recompute", "memory"),
        *("communicated_bytes", "recomputed_flops", "fits", "bubble", "devices", "stages"),
        *("pipeline_stages", "pipeline_schedule", "pipeline_virtual_stages", "tensor_parallel"),
    }
    assert only["devices"] == [only["memory"]]
    memory = only["memory"]
    assert (memory["parameters"], memory["slots"]) == (328, 668)
    made = ("gradients", "activations", "buffers", "padding")
    parts = ("parameters", "slots", "other", "batch", *made)
    assert memory["total"] == sum(memory[name] for name in parts)
    (kernel, *_) = found["variables"]
    assert (kernel["shape"], kernel["bytes"], kernel["role"]) == ([8, 6], 192, "parameter")


def test_schedules_are_compared_and_stages_listed(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--pipeline_stages=2", "--pipeline_schedule=gpipe,1f1b", "--microbatches=4")
    assert main(["plan", "planned_subject:build", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("82 trainable parameters on 1 replica of 2 devices")
    assert [row[1:].split()[0] for row in lines[4:6]] == ["gpipe", "1f1b"]
    stage = next(i for i, line in enumerate(lines) if line.split()[:1] == ["stage"])
    # Dense(8 -> 6), and Dense(6 -> 4).
    found = [line.split()[:3] for line in lines[stage + 1 : stage + 3]]
    assert found == [["0", "216", "B"], ["1", "112", "B"]]
    assert "begin at dense" in lines[stage + 3]
    assert lines[-1].startswith("Cheapest: 2 stages, ")


def test_nothing_fits_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "planned_subject:build", "--memory_per_device=1kB"]) == 1
    assert "Nothing fits: the smallest" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["planned_subject"], "must be MODULE:FUNCTION", id="target"),
        pytest.param(["planned_subject:other"], "`FUNCTION` must be a function", id="function"),
        pytest.param(["planned_subject:broken"], "raised KeyError: 'no file'", id="its error"),
        pytest.param(["planned_subject:build", "--shard=5"], "in [0, 4)", id="shard"),
        pytest.param(["planned_subject:build", "--shard=0,,1"], "in [0, 4)", id="an empty one"),
        pytest.param(
            ["planned_subject:build", "--precision=half"], "must be of as_is", id="policy"
        ),
        pytest.param(
            ["planned_subject:build", "--memory_per_device=16"], "with its unit", id="size"
        ),
        pytest.param(
            ["planned_subject:build", "--pipeline_schedule=first"], "must be of gpipe", id="order"
        ),
        pytest.param(
            ["planned_subject:build", "--tensor_parallel=2", "--tensor_rules=json:dumps"],
            "must name a list of",
            id="rules",
        ),
        pytest.param(["planned_subject:build", "--replicas=5"], "Use 20.", id="batch"),
        pytest.param(["planned_subject:build", "--microbatches=3"], "must divide", id="parts"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["plan", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 2
    assert error.startswith("tfscale plan: ")
    assert message in error
