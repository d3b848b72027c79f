from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.tfscale.report import report_runs
from tfscale.report.json import from_json, read_run, to_json, write_run
from tfscale.report.record import Confusion, Curve, RunRecord, Timing


@pytest.mark.parametrize("run", [report_runs.ordinary(), RunRecord("only a title")])
def test_a_run_read_back_is_the_run_written(run: RunRecord, tmp_path: Path) -> None:
    write_run(run, tmp_path / "run.json")
    assert read_run(tmp_path / "run.json") == run
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_nan_and_infinity_survive_strict_json() -> None:
    text = to_json(report_runs.rough())

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    values = json.loads(text, parse_constant=refuse)
    assert values["history"]["loss"] == [2.0, 1.5, "nan", "inf", 1.1, "nan"]
    assert values["history"]["val_loss"][0] is None
    # NaN differs from itself, so the texts are compared.
    assert to_json(from_json(text)) == text


def test_numpy_numbers_become_python_numbers() -> None:
    run = RunRecord(
        "numpy",
        results=dict[str, Any](accuracy=np.float32(0.5), count=np.int64(3)),
        history=dict[str, Any](loss=np.array([1.0, 0.5])),
        configuration={"seed": np.int32(7)},
        timing=Timing(total_seconds=np.float64(2.0), num_steps=np.int64(4)),  # type: ignore[arg-type]
        confusion=Confusion(["a", "b"], np.array([[1, 0], [2, 3]])),  # type: ignore[arg-type]
    )
    assert run.results == {"accuracy": 0.5, "count": 3}
    assert type(run.results["count"]) is int
    assert run.history == {"loss": (1.0, 0.5)}
    assert run.confusion is not None
    assert run.confusion.matrix == ((1, 0), (2, 3))
    assert from_json(to_json(run)) == run


def test_predictions_are_counted_true_class_down_predicted_across() -> None:
    # By hand: 0 is predicted once as 0 and once as 2; 1 as 0; 2 twice as 2.
    counted = Confusion.of(["a", "b", "c"], [0, 0, 1, 2, 2], [0, 2, 0, 2, 2])
    assert counted.matrix == ((1, 0, 1), (1, 0, 0), (0, 0, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: RunRecord(" "), "`title` must be a text", id="no title"),
        pytest.param(
            lambda: RunRecord("t", history={"loss": [1.0, 2.0], "val_loss": [1.0]}),
            "`history` must have one value per epoch for each name.*Use None",
            id="uneven history",
        ),
        pytest.param(
            lambda: RunRecord("t", results={"loss": "low"}),  # type: ignore[dict-item]
            "`results` must contain numbers",
            id="result is text",
        ),
        pytest.param(
            lambda: RunRecord("t", configuration={"x": {"y": Path()}}),
            r"`configuration.x.y` must be JSON values",
            id="configuration is an object",
        ),
        pytest.param(lambda: RunRecord("t", first_epoch=-1), "`first_epoch`", id="epoch"),
        pytest.param(lambda: Curve("c", {}, every=0), "`every` must be an integer", id="every"),
        pytest.param(
            lambda: Curve("c", {}, scale="loglog"),  # type: ignore[arg-type]
            "`scale` must be one of auto, linear, log",
            id="scale",
        ),
        pytest.param(
            lambda: Timing(total_seconds=math.inf), "`total_seconds` must be finite", id="time"
        ),
        pytest.param(lambda: Timing(num_steps=-1), "`num_steps` must be an integer", id="steps"),
        pytest.param(
            lambda: Confusion(["a"], [[1, 2]]), r"rows of \[2\] columns, 1 labels", id="not square"
        ),
        pytest.param(lambda: Confusion([], []), "at least one", id="no class"),
        pytest.param(lambda: Confusion(["a"], [[-1]]), "`matrix` must be an integer", id="minus"),
        pytest.param(lambda: Confusion.of(["a"], [0], [1]), r"classes in \[0, 1\)", id="label"),
        pytest.param(lambda: Confusion.of(["a"], [0, 0], [0]), "shorter", id="lengths"),
    ],
)
def test_impossible_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "`run.json` must be JSON"),
        ("[]", "`run.json` must be a JSON object. Received: list"),
        ("{}", "`version` of run.json must be 1. Received: version=None"),
        ('{"version": 2, "title": "t"}', "Received: version=2"),
        ('{"version": 1}', "must have a title"),
        ('{"version": 1, "title": "t", "colour": 1}', "only these fields: title, results"),
        ('{"version": 1, "title": "t", "timing": {"days": 1}}', "as `write_run` writes it"),
        ('{"version": 1, "title": "t", "curves": [{"title": "c"}]}', "as `write_run` writes it"),
        ('{"version": 1, "title": "t", "history": []}', "as `write_run` writes it"),
    ],
)
def test_a_file_that_is_not_a_run_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(text)


def test_a_run_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    # A folder is in the place of the file: the rename fails after the text has been written.
    (tmp_path / "run.json").mkdir()
    with pytest.raises(OSError, match=r"run.json could not be written: .*Make room"):
        write_run(RunRecord("t"), tmp_path / "run.json")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
