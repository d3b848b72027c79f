"""`tfscale data inspect --repair --source` as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.unit.tfscale.data.packing.sets import contents
from tfscale.__main__ import main

FUNCTIONS = """
import tensorflow as tf

def examples():
    return {"x": tf.range(100, dtype=tf.int64)}

def even(batch):
    return batch["x"] % 2 == 0

def halved(batch):
    return {"half": batch["x"] / 2}
"""


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 100 lines of JSON, in `lines.jsonl`, packed into `set`."""
    monkeypatch.chdir(tmp_path)
    text = "".join(json.dumps({"x": n, "y": [n / 4, 1.0]}) + "\n" for n in range(100))
    (tmp_path / "lines.jsonl").write_text(text, "utf-8")
    assert main(["data", "pack", "lines.jsonl", "set", "--num_shards=4"]) == 0
    return tmp_path


def damage(folder: Path) -> dict[str, bytes]:
    """Removes a shard and changes another. Returns what was there."""
    before = contents(folder)
    first, second, *_ = sorted(folder.glob("*record"))
    first.unlink()
    content = bytearray(second.read_bytes())
    content[100] ^= 1
    second.write_bytes(content)
    return before


def repaired(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str, list[str]]:
    capsys.readouterr()
    status = main(["data", "inspect", "set", "--jobs=1", "--repair", *flags])
    printed = capsys.readouterr()
    return status, printed.out, printed.err.splitlines()


def test_lost_shards_are_made_again(lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = damage(lines / "set")
    status, _, errors = repaired(capsys)
    assert (status, len(errors)) == (1, 2)
    assert all(error.endswith("run with --repair --source=SOURCE.") for error in errors)
    status, output, errors = repaired(capsys, "--source=lines.jsonl")
    assert (status, contents(lines / "set")) == (0, before)
    assert output.endswith("verified: 4 of 4 files intact\n")
    assert [error.partition(" was made again: 25 examples")[2] for error in errors] == [
        ", the same bytes"
    ] * 2


def test_a_source_that_changed_is_refused_by_name(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(lines / "set")
    damaged = contents(lines / "set")
    path = lines / "lines.jsonl"
    path.write_text(path.read_text("utf-8").replace("[0.25, ", "[0.75, "), "utf-8")
    status, output, errors = repaired(capsys, "--source=lines.jsonl")
    assert (status, output, len(errors)) == (2, "", 1)
    assert errors[0].startswith("tfscale data inspect: --source=lines.jsonl: ")
    assert contents(lines / "set") == damaged


def test_functions_are_passed_again(lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lines / "repair_functions.py").write_text(FUNCTIONS, "utf-8")
    shutil.rmtree(lines / "set")
    flags = ["--filter=repair_functions:even", "--map=repair_functions:halved"]
    command = ["data", "pack", "repair_functions:examples", "set", "--num_shards=4", *flags]
    assert main(command) == 0
    before = damage(lines / "set")
    status, _, errors = repaired(capsys, "--source=repair_functions:examples", flags[0])
    assert status == 2
    assert "`source` must be what was packed, with the same functions" in errors[0]
    status, _, _ = repaired(capsys, "--source=repair_functions:examples", *flags)
    assert (status, contents(lines / "set")) == (0, before)


def test_another_set_of_the_same_examples_is_a_source(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--container=array_record", "--num_shards=3"]
    assert main(["data", "convert", "set", "copy", *flags]) == 0
    before = damage(lines / "set")
    status, _, _ = repaired(capsys, "--source=copy")
    assert (status, contents(lines / "set")) == (0, before)
    # And the original repairs the copy, whose key has the same source.
    before = damage(lines / "copy")
    assert main(["data", "inspect", "copy", "--repair", "--source=lines.jsonl"]) == 0
    assert contents(lines / "copy") == before


def test_a_source_without_repair_is_wrong_usage(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "inspect", "set", "--source=lines.jsonl"]) == 2
    assert "`--source` is for --repair." in capsys.readouterr().err
