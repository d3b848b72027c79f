"""`tfscale.callbacks.Profile` and `tfscale profile`: real steps, beside times that are measured."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.programs import completed
from tests.unit.tfscale.profile.chrome_format import problems_of, read, spans
from tfscale.__main__ import main
from tfscale.callbacks import Profile
from tfscale.profile.recording import TRACE_FILE

pytestmark = pytest.mark.own_process

SOURCE = """
import keras
import numpy as np


def build():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(64), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    return model, (x, x[:, :1])


def together():
    model, data = build()
    model.steps_per_execution = 4
    return model, data


def wrong_shapes():
    model, (x, y) = build()
    return model, (x[:, :3], y)
"""


class Times(keras.callbacks.Callback):
    """When steps began and ended, in ms since the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[list[float]] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.at.append([time.time_ns() / 1e6])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.at[-1].append(time.time_ns() / 1e6)


class Fails(keras.callbacks.Callback):
    """Raises in a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == self.step:
            raise RuntimeError("the test ends this")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    with strategies.mirrored_strategy(num_replicas=2).scope():
        wide = keras.layers.Dense(64, name="wide")
        model = keras.Sequential([keras.Input((8,)), wide, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback) -> None:
    x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
    model.fit(x, x[:, :1], batch_size=16, verbose=0, callbacks=list(callbacks))


def test_steps_and_their_operations_are_in_the_trace_at_the_times_that_are_measured(
    model: keras.Model, tmp_path: Path
) -> None:
    times, profile = Times(), Profile(tmp_path, steps=(2, 5))
    fit(model, times, profile)
    trace = read(tmp_path / TRACE_FILE)
    assert problems_of(trace) == []
    assert [step.number for step in profile.recorded] == [2, 3, 4]
    products = spans(trace, 0, "MatMul")
    for step in (2, 3, 4):
        ((begin, end),) = spans(trace, 0, f"step {step}")
        before, after = times.at[step]
        # Measured by a callback before this one: it is first to see a step begin, and its end.
        assert before <= begin
        assert begin < after <= end
        inside = [span for span in products if begin <= span[0] and span[1] <= end]
        assert len(inside) >= 2 * 3  # on each replica: two forward, and back to the first kernel
    assert (tmp_path / "worker-0.xplane.pb").stat().st_size > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [TRACE_FILE, "worker-0.xplane.pb"]
    _same_as_xprof(trace, tmp_path / "worker-0.xplane.pb")


def test_executions_of_several_steps_are_recorded_where_they_have_steps_of_the_range(
    model: keras.Model, tmp_path: Path
) -> None:
    model.steps_per_execution = 4
    try:
        x = np.ones([96, 8], "float32")
        for steps, found in (((5, 6), [(4, 2)]), ((7, 14), [(6, 4), (10, 2), (12, 4)])):
            profile = Profile(tmp_path, steps=steps)
            model.fit(x, x[:, :1], batch_size=16, epochs=3, verbose=0, callbacks=[profile])
            assert [(step.number, step.steps) for step in profile.recorded] == found
    finally:
        model.steps_per_execution = 1
    trace = read(tmp_path / TRACE_FILE)
    names = [each["name"] for each in trace["traceEvents"] if "phases_ms" in each.get("args", {})]
    assert names == ["steps 6 to 9", "steps 10 to 11", "steps 12 to 15"]


def _same_as_xprof(trace: dict[str, Any], file: Path) -> None:
    """Compares with what xprof makes of the same profile, where it is installed."""
    if importlib.util.find_spec("xprof") is None:
        return
    from xprof.convert import raw_to_tool_data

    text, _ = raw_to_tool_data.xspace_to_tool_data([str(file)], "trace_viewer", {})
    theirs = [e for e in json.loads(text)["traceEvents"] if e.get("ph") == "X"]
    ours = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] != 0]
    for name in ("_MklMatMul", "MatMul", "CollectiveReduceV2"):
        lengths = [
            sorted(round(e["dur"], 2) for e in events if name in e["name"])
            for events in (theirs, ours)
        ]
        assert lengths[0] == pytest.approx(lengths[1], abs=0.02), name
    assert lengths[0]


def test_a_training_that_is_too_short_or_fails_leaves_the_profiler_free(
    model: keras.Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="the test ends this"):
        fit(model, Profile(tmp_path, steps=(1, 5)), Fails(3))
    assert list(tmp_path.iterdir()) == []
    fit(model, Profile(tmp_path, steps=(9, 12)))
    assert "Profile has recorded nothing: training ended after 6 steps" in capfd.readouterr().err
    short = Profile(tmp_path, steps=(4, 12))
    fit(model, short)
    assert [step.number for step in short.recorded] == [4, 5]
    assert len(spans(read(tmp_path / TRACE_FILE), 0, "step ")) == 2


def test_a_second_profile_is_refused(model: keras.Model, tmp_path: Path) -> None:
    tf.profiler.experimental.start(str(tmp_path / "other"))
    try:
        with pytest.raises(ValueError, match="TensorFlow records one profile at a time"):
            fit(model, Profile(tmp_path, steps=(0, 1)))
    finally:
        tf.profiler.experimental.stop(save=False)


def test_steps_may_be_numbers_of_numpy() -> None:
    assert Profile("x", steps=tuple(np.array([1, 3]))).steps == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": (5, 5)}, "`steps` must be two whole numbers"),
        ({"steps": (-1, 5)}, "`steps` must be two whole numbers"),
        ({"steps": (True, 5)}, "`steps` must be two whole numbers"),
        ({"steps": 5}, "`steps` must be two whole numbers"),
        ({"folder": ""}, "`folder` must be a folder"),
        ({"folder": "a\0b"}, "`folder` must be a folder"),
        ({"folder": "gs://bucket/x"}, "`folder` must be a folder"),
        ({"folder": None}, "`folder` must be a folder"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Profile(**{"folder": "x", **arguments})


@pytest.fixture
def _in_a_folder_with_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiled_subject.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_in_a_folder_with_a_model")
@pytest.mark.parametrize("function", ["build", "together"])
def test_the_command_writes_the_trace_and_prints_its_figures(
    capsys: pytest.CaptureFixture[str], function: str
) -> None:
    flags = ("--steps=3", "--skip=2", "--batch_size=16", "--output=own.json.gz", "--json")
    assert main(["profile", f"profiled_subject:{function}", *flags]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["workers"]["0"]["steps"] == 3
    assert problems_of(read(Path("own.json.gz"))) == []
    assert sorted(path.name for path in Path.cwd().glob("[!_]*")) == [
        "own.json.gz",
        "profiled_subject.py",
    ]


@pytest.mark.usefixtures("_in_a_folder_with_a_model")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["profiled_subject:missing"], 2, "`FUNCTION` must be a function of profiled_subject"),
        (["profiled_subject:build", "--output=x.json"], 2, "`--output` must end with .json.gz"),
        (["profiled_subject:build", "--output=no/x.json.gz"], 2, "in a folder that exists"),
        (["profiled_subject:wrong_shapes"], 2, "incompatible"),
    ],
)
def test_wrong_usage_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert main(["profile", *arguments]) == status
    assert message in capsys.readouterr().err


@pytest.mark.thorough
def test_two_workers_are_two_processes_whose_steps_are_at_the_same_time(tmp_path: Path) -> None:
    (tmp_path / "profiled_subject.py").write_text(SOURCE)
    launch = ("-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable)
    output = tmp_path / "trace.json.gz"
    profile = ("-m", "tfscale", "profile", "profiled_subject:build", "--steps=4", "--skip=3")
    path = f"{Path.cwd()}:{tmp_path}"
    done = completed(*launch, *profile, f"--output={output}", timeout=280, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    trace = read(output)
    assert problems_of(trace) == []
    for step in range(3, 7):
        ((begin, end),) = spans(trace, 0, f"step {step}")
        ((other_begin, other_end),) = spans(trace, 1, f"step {step}")
        # A step has an all-reduce: no worker ends it before the other has begun it.
        assert other_begin < end
        assert begin < other_end
    clock = trace["otherData"]["clocks"]["1"]
    assert clock["ahead_ms"] == 0
    assert 0 <= clock["within_ms"] < 1000
    assert "worker 1: 4 steps" in done.stdout
    assert [path.name for path in tmp_path.iterdir() if "trace" in path.name] == [output.name]
