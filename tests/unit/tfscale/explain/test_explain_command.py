"""`tfscale explain`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tfscale.__main__ import main

L = keras.layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,), name="x"), L.Dense(4, "relu"), L.Dense(2)])
    model.save(folder / "model.keras")
    x = np.random.default_rng(0).normal(size=(20, 3))
    np.savez(folder / "rows.npz", x=x, y=model.predict(x, verbose=0).argmax(axis=1))
    np.save(folder / "bad.npy", np.full((2, 3), np.nan))
    (folder / "labels.txt").write_text("cat\ndog\n", "utf-8")
    return folder


def test_the_page_and_the_json_are_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / "why.html"
    flags = [f"--output={page}", f"--labels={folder}/labels.txt", "--features=a,b,c", "--json"]
    rows = ["--rows=2", "--target=1", "--replicas=1"]
    assert main(["explain", str(folder), f"{folder}/rows.npz", *flags, *rows]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["targets"], found["incomplete"]) == (2, [1, 1], [])
    assert np.shape(found["attributions"]["x"]) == (2, 3)
    text = page.read_text("utf-8")
    assert all(word in text for word in ("dog", "<span>a", "Row 1", "largest gap"))


def test_importances_are_printed_with_the_largest_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--method=permutation_importance", "--metric=accuracy", "--replicas=1"]
    assert main(["explain", str(folder), f"{folder}/rows.npz", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("accuracy: 1 on 20 rows.")
    values = [float(line.split()[1]) for line in lines[1:4]]
    assert values == sorted(values, reverse=True)
    assert lines[4] == f"page: {folder / 'explain.html'}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.keras", "rows.npz"], "`MODEL` must be a .keras file"),
        (["labels.txt", "rows.npz"], "`MODEL` could not be loaded"),
        (["model.keras", "none.npz"], "`data` must be an .npz or .npy file"),
        (["model.keras", "nonsense"], "`DATA` is neither an .npz nor an .npy file"),
        (["model.keras", "bad.npy"], "`inputs` must be finite"),
        (["model.keras", "rows.npz", "--target=2"], "`target` must be an integer in [0, 2)"),
        (["model.keras", "rows.npz", "--output=labels.txt"], "`output` must be a new file"),
        (["model.keras", "rows.npz", "--window=2"], "It belongs to --method=occlusion"),
        (
            ["model.keras", "rows.npz", "--method=permutation_importance"],
            "`--metric` is required with --method=permutation_importance",
        ),
    ],
)
def test_wrong_usage_is_named(
    folder: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["explain", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("tfscale explain: ")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--method=lime", "invalid choice: 'lime'"),
        ("--target=cat", "argument --target: must be"),
        ("--baseline=nan", "argument --baseline: must be a finite number"),
        ("--rows=0", "argument --rows: must be"),
        ("--windows=3", "unknown arguments: --windows=3"),
    ],
)
def test_wrong_flags_are_named(flag: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["explain", "model.keras", "rows.npz", flag])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
