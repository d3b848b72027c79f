"""The runs that `make bench` keeps: which file is the newest comparable one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import history
from tests.benchmarks.__main__ import main
from tests.unit.tfscale.bench.test_bench_table import MACHINE, OUTCOME
from tfscale.bench.outcome import Outcome


def kept(folder: Path, date: str, **changes: Any) -> Path:
    machine = dataclasses.replace(MACHINE, date=f"2026-11-{date}T10:00:00+00:00")
    return history.keep(dataclasses.replace(OUTCOME, machine=machine, **changes), folder)


def test_a_kept_run_is_named_after_date_kind_and_subject_and_read_back(tmp_path: Path) -> None:
    path = kept(tmp_path / "history", "03", subject="mine:build")
    assert path.name == "2026-11-03T100000_step_mine-build.json"
    assert Outcome.from_json(json.loads(path.read_text("utf-8"))).rows == OUTCOME.rows


def test_the_newest_run_of_the_same_kind_subject_and_processors_is_found(tmp_path: Path) -> None:
    assert history.newest("step", "mlp", MACHINE, tmp_path) is None
    kept(tmp_path, "01")
    newest = kept(tmp_path, "02")
    kept(tmp_path, "03", subject="cnn")
    kept(tmp_path, "04", kind="scaling")
    assert history.newest("step", "mlp", MACHINE, tmp_path) == newest
    assert history.newest("step", None, MACHINE, tmp_path) != newest
    other = dataclasses.replace(MACHINE, cpus=64)
    assert history.newest("step", "mlp", other, tmp_path) is None


def test_every_kept_run_of_this_repository_can_be_read() -> None:
    for path in history.FOLDER.glob("*.json"):
        outcome = Outcome.from_json(json.loads(path.read_text("utf-8")))
        assert path.name == history.file_name(outcome)
        assert outcome.machine.versions["keras"]


def test_a_run_is_compared_with_the_newest_one_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history, "FOLDER", tmp_path)
    flags = ["--model=tiny_mlp", "--variants=stock", "--rounds=2", "--steps=4", "--keep"]
    assert main(flags) == 0
    assert "against" not in capsys.readouterr().out
    assert main(["step", *flags]) == 0
    assert "against the run of " in capsys.readouterr().out
    assert len(list(tmp_path.glob("*_step_tiny_mlp.json"))) >= 1
