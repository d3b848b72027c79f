"""`tfscale find`: what it prints and writes, and its exit statuses."""

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
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.normal(size=(64, 8)).astype("float32")
    return model, (x, x[:, :1])


def wrong_shapes():
    model, (x, y) = build()
    return model, (x[:, :3], y)
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "found_subject.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_json_has_the_suggestion_and_a_picture_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--batch_size=64", "--lowest=1e-4", "--steps=25", "--picture=rates.svg", "--json")
    assert main(["find", "found_subject:build", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["suggestion"] == found["minimum"] / 3
    assert len(found["losses"]) == len(found["rates"])
    assert Path("rates.svg").read_text("utf-8").startswith("<svg ")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["found_subject:missing"], 2, "`FUNCTION` must be a function of found_subject"),
        (["found_subject:build", "--num_replicas=2"], 2, "must come with --strategy=mirrored"),
        (["found_subject:build", "--largest=9"], 2, "must come with --what=batch_size"),
        (["found_subject:b", "--what=batch_size", "--seed=1"], 2, "with --what=learning_rate"),
        (["found_subject:build", "--steps=3"], 2, "`steps` must be"),
        (["found_subject:build", "--lowest=5", "--highest=1"], 2, "`highest` must be a number"),
        (["found_subject:build", "--picture=no/such/rates.svg", "--steps=25"], 2, "no/such"),
        (["found_subject:wrong_shapes"], 2, "incompatible"),
    ],
)
def test_what_cannot_be_found_ends_with_one_line(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["find", *arguments]) == status
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_a_batch_size_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    Path("found_subject.py").write_text(SOURCE.replace("def build():", "def build(batch_size=64):"))
    flags = ("--what=batch_size", "--smallest=16", "--largest=16", "--steps=3", "--json")
    assert main(["find", "found_subject:build", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["largest"], found["fastest"]) == (16, 16)
    assert found["probes"][0]["examples_per_second"] > 0
