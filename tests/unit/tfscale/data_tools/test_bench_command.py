"""`tfscale data bench` as a user runs it, and the inputs that its arguments name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfscale import data
from tfscale.__main__ import main
from tfscale.bench.outcome import Outcome
from tfscale.data_tools.bench_subject import subject_of

PROGRAM = """
import keras
import numpy as np
import tensorflow as tf

import strategies
from tfscale import data

ROWS = np.zeros([64, 4], "float32"), np.zeros(64, "float32")


def pipeline():
    return data.input_pipeline(ROWS, strategies.one_device_strategy(), 16, augment=one_by_one)


def one_by_one(batch, seeds):
    return tf.map_fn(lambda row: row + 1.0, batch[0]), batch[1]


def model():
    built = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    built.compile("sgd", "mse")
    return built


def both():
    with strategies.one_device_strategy().scope():
        return model(), ROWS


def examples():
    return tf.data.Dataset.from_tensor_slices(ROWS)


def not_compiled():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def failing():
    raise OSError("no such disk")


def without_batches():
    return tf.data.Dataset.from_tensor_slices(ROWS).take(0).batch(4)


def priced():
    def prices(batch, seeds):
        return batch["price"]

    return data.input_pipeline(ROWS, strategies.one_device_strategy(), 16, augment=prices)


def broken():
    def checked(batch):
        tf.debugging.assert_equal(batch[0], 1.0, "not one")
        return batch

    return data.input_pipeline(ROWS, strategies.one_device_strategy(), 16, preprocess=checked)
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a program that builds inputs."""
    (tmp_path / "own_inputs.py").write_text(PROGRAM, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("own_inputs", None)


def benched(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Returns exit status, output and errors of a short run in this process."""
    status = main(["data", "bench", "--rounds=2", "--seconds=0.01", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_input_and_training_are_measured_and_shown_as_json_and_page(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("own_inputs:pipeline", "--model=own_inputs:model", "--html=input.html")
    status, output, errors = benched(capsys, *arguments, "--json")
    assert status == 0, errors
    values = json.loads(output)
    rows = {row["name"]: row for row in values["rows"]}
    assert [name for name in rows if rows[name]["group"] == "what each stage adds"] == [
        "order",
        "read",
        "augment",
    ]
    assert {"input", "a batch in memory", "model", "training", "transfer"} <= set(rows)
    added = sum(rows[name]["rounds"][0] for name in ("order", "read", "augment"))
    assert added == pytest.approx(rows["input"]["rounds"][0])
    assert values["diagnosis"]["text"] + "." == values["notes"][0]
    assert 0 <= values["diagnosis"]["waiting"] < 1
    assert "tfscale data bench: training: round 1 of 1" in errors
    page = (program / "input.html").read_text("utf-8")
    assert "Benchmark input: own_inputs:pipeline with own_inputs:model" in page
    assert "what each stage adds" in page
    assert json.loads(json.dumps(Outcome.from_json(values).to_json())) == values


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("own_inputs:absent",), "must be a function of own_inputs"),
        (("own_inputs:failing",), "no such disk"),
        (("own_inputs:pipeline", "--model=own_inputs:not_compiled"), "must be compiled"),
        (("own_inputs:pipeline", "--model=own_inputs:examples"), "must return a compiled"),
        (("own_inputs:without_batches",), "`SOURCE` must have at least one batch"),
        (("own_inputs:priced",), "own_inputs:priced: TypeError: "),
        (("own_inputs:broken",), "not one"),
        (("no_such_dataset_at_all",), "no_such_dataset_at_all"),
    ],
)
def test_wrong_arguments_are_one_line_with_a_cure(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, errors = benched(capsys, *arguments)
    assert (status, output) == (2, "")
    (line,) = [line for line in errors.splitlines() if line.startswith("tfscale data bench")]
    assert said in line


def test_function_of_a_model_and_arrays_is_a_pipeline_under_its_strategy() -> None:
    found = subject_of("own_inputs:both", None, batch_size=256, image_size=None)
    assert isinstance(found.data, data.Pipeline)
    assert found.data.global_batch_size == 64  # no more than there are
    assert isinstance(found.model, keras.Model)
    assert found.data.strategy is found.model.distribute_strategy


def test_dataset_of_single_examples_is_batched() -> None:
    found = subject_of("own_inputs:examples", None, batch_size=8, image_size=None)
    assert isinstance(found.data, tf.data.Dataset)
    assert found.data.element_spec[1].shape.as_list() == [None]
    assert next(iter(found.data))[0].shape == (8, 4)


def test_folders_and_patterns_are_sources(program: Path) -> None:
    for name in ("cat", "dog"):
        (program / "photos" / name).mkdir(parents=True)
        image = tf.io.encode_png(tf.zeros([6, 6, 3], tf.uint8)).numpy()
        (program / "photos" / name / "1.png").write_bytes(image)
    found = subject_of("photos", None, batch_size=2, image_size=(4, 4))
    assert found.data.source.image_shape == (4, 4, 3)  # type: ignore[union-attr]
    for shard in range(2):
        (program / f"rows-{shard}.csv").write_text("x,y\n1,2\n3,4\n", "utf-8")
    found = subject_of("rows-*.csv", None, batch_size=2, image_size=None)
    rows = next(iter(found.data.local(0)))
    assert found.data.source.num_examples == 4
    assert set(rows) == {"x", "y"}
    assert np.asarray(rows["x"]).shape == (2,)
