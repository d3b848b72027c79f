"""Monitor beside trainings whose times, examples and operations are known."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from strategies.progress import Progress
from tests.undisturbed import Lateness, undisturbed
from tests.unit.tfscale.callbacks.input_wait_training import batches, forgetting, model
from tests.waiting import until
from tfscale.callbacks import Checkpoint, InputWait, Monitor, Watchdog
from tfscale.monitor.journal import Journal, stamped

pytestmark = pytest.mark.own_process
WALL = 0.02
"""Part of the wall time by which the phases may differ from it."""


@pytest.fixture(scope="module")
def two_replicas() -> strategies.Strategy:
    return strategies.mirrored_strategy(num_replicas=2)


@pytest.fixture(scope="module")
def one_device(two_replicas: strategies.Strategy) -> strategies.Strategy:
    return strategies.one_device_strategy()  # after that one, which cuts the CPU in two


def dense(strategy: Any, **compiled: Any) -> keras.Model:
    with strategy.scope():
        built = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        built.compile("sgd", "mse", **compiled)
    return built


def rows(count: int) -> tuple[Any, Any]:
    return np.ones([count, 3], "float32"), np.ones([count, 2], "float32")


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "monitor-0.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def steps(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder) if line["event"] == "steps"]


class Pause(keras.callbacks.Callback):
    """Takes 0.2 s after each epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        time.sleep(0.2)


def test_phases_are_those_of_the_training_and_add_up_to_wall_time(
    one_device: Any, tmp_path: Path
) -> None:
    def measure(lateness: Lateness) -> tuple[list[dict[str, Any]], float]:
        began, folder = time.monotonic(), tmp_path / str(time.monotonic_ns())
        model(one_device, 0.02).fit(
            batches(0.1, 10),
            epochs=2,
            validation_data=batches(0.05, 4),
            callbacks=[
                Monitor(folder, every_seconds=0.1),
                Pause(),
                Checkpoint(folder / "saved", asynchronous=False),
                forgetting(lateness),
            ],
            shuffle=False,
            verbose=0,
        )
        return steps(folder), time.monotonic() - began

    found, wall = undisturbed(measure)
    for line in found:
        assert sum(line["phases"].values()) == pytest.approx(line["seconds"], rel=WALL, abs=1e-3)
        assert min(line["phases"].values()) > -1e-3
    assert sum(line["steps"] for line in found) == 20
    total = {name: sum(line["phases"][name] for line in found) for name in found[0]["phases"]}
    assert sum(total.values()) < wall
    # Steps of 0.02 s on batches of 0.1 s, and of 0.05 s in 4 of validation. A busy machine makes
    # steps longer, which a batch that is read ahead then waits for.
    if not any("clock_was_set_by" in line for line in found):
        assert total["input_wait"] > 2 * 9 * 0.03
    assert total["compute"] > 2 * 9 * 0.02
    assert total["evaluation"] > 2 * 4 * 0.02
    assert total["callbacks"] > 2 * 0.2
    assert total["checkpoint"] > 0
    assert found[0]["phases"]["compile"] > 0
    assert [line["phases"]["compile"] for line in found[1:]] == [0] * (len(found) - 1)


def test_input_is_not_divided_from_steps_while_the_clock_is_set(
    one_device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: 2 * wall())
    model(one_device, 0.01).fit(
        batches(0.05, 6), callbacks=[Monitor(tmp_path)], shuffle=False, verbose=0
    )
    for line in steps(tmp_path):
        assert line["clock_was_set_by"] == pytest.approx(line["seconds"], rel=0.05, abs=0.02)
        assert line["phases"]["input_wait"] == line["phases"]["communication"] == 0


def test_a_machine_that_stands_still_between_two_readings_changes_no_figure(
    one_device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For 0.2 s after the seconds of the phases were read, and after one of two clocks was."""
    seconds, wall = Progress.seconds, time.time
    marks, readings = itertools.count(), itertools.count()

    def read(self: Progress) -> dict[str, float]:
        found = seconds(self)
        if next(marks) % 3 == 0:
            time.sleep(0.2)
        return found

    def late() -> float:
        now = wall()
        if next(readings) % 4 == 0:
            time.sleep(0.2)
        return now

    monkeypatch.setattr(Progress, "seconds", read)
    monkeypatch.setattr("tfscale.monitor.journal.time.time", late)
    dense(one_device).fit(*rows(64), callbacks=[Monitor(tmp_path, every_seconds=0)], verbose=0)
    for line in steps(tmp_path):
        assert "clock_was_set_by" not in line, line
        assert sum(line["phases"].values()) == pytest.approx(line["seconds"], abs=1e-6)


def generated() -> tf.data.Dataset:
    def values() -> Iterator[Any]:
        for _ in range(3):
            yield rows(8)
        yield rows(6)

    spec = tf.TensorSpec([None, 3]), tf.TensorSpec([None, 2])
    return tf.data.Dataset.from_generator(values, output_signature=spec)


@pytest.mark.parametrize(
    ("replicas", "kind"),
    [
        ("two_replicas", "dataset"),
        ("one_device", "generator"),
        pytest.param("one_device", "arrays", marks=pytest.mark.thorough),
        pytest.param("one_device", "dataset", marks=pytest.mark.thorough),
        pytest.param("one_device", "pipeline", marks=pytest.mark.thorough),
        pytest.param("two_replicas", "arrays", marks=pytest.mark.thorough),
        pytest.param("two_replicas", "generator", marks=pytest.mark.thorough),
        pytest.param("two_replicas", "pipeline", marks=pytest.mark.thorough),
    ],
)
def test_examples_and_operations_are_exact(
    replicas: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    strategy = request.getfixturevalue(replicas)
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "arrays": lambda: {"x": rows(30)[0], "y": rows(30)[1], "batch_size": 8},
        "dataset": lambda: {"x": tf.data.Dataset.from_tensor_slices(rows(30)).batch(8)},
        "generator": lambda: {"x": generated()},
        "pipeline": lambda: {
            "x": tfscale.data.input_pipeline(
                rows(30), strategy, global_batch_size=8, remainder="keep"
            )
        },
    }
    data = makers[kind]()
    monitor = Monitor(tmp_path, every_seconds=0)
    dense(strategy).fit(**data, epochs=2, validation_data=rows(20), callbacks=[monitor], verbose=0)
    found = steps(tmp_path)
    assert sum(line["examples"] for line in found) == 60
    assert sum(line["steps"] for line in found) == 8
    assert monitor.flops_per_example == 2 * (2 * 3 * 2)
    assert sum(line["flops"] for line in found) == 60 * 24
    assert lines(tmp_path)[-1]["position"] == 8


def test_utilization_is_of_the_peak_that_was_given(one_device: Any, tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, peak_flops=1e6, in_logs=True)
    history = dense(one_device).fit(*rows(64), callbacks=[monitor], epochs=2, verbose=0).history
    for line in steps(tmp_path):
        assert line["utilization"] == pytest.approx(line["flops"] / line["seconds"] / 1e6)
    begin = lines(tmp_path)[0]
    assert (begin["peak_flops"], begin["peak_is_measured"]) == (1e6, False)
    rate = history["examples_per_second"][-1]
    assert history["utilization"][-1] == pytest.approx(rate * 24 / 1e6)


@pytest.mark.thorough
def test_a_measured_peak_is_said_to_be_measured(one_device: Any, tmp_path: Path) -> None:
    dense(one_device).fit(*rows(8), callbacks=[Monitor(tmp_path, peak_flops="measure")], verbose=0)
    begin = lines(tmp_path)[0]
    assert begin["peak_flops"] > 1e6
    assert begin["peak_is_measured"]


@pytest.mark.thorough
def test_other_callbacks_that_measure_share_the_clock(one_device: Any, tmp_path: Path) -> None:
    monitor, wait, watchdog = Monitor(tmp_path), InputWait(in_logs=True), Watchdog()
    for callbacks in ([monitor, wait], [wait, monitor], [watchdog, monitor, wait]):

        def measure(lateness: Lateness, callbacks: list[Any] = callbacks) -> list[float]:
            fitted = model(one_device, 0.01).fit(
                batches(0.1, 8),
                epochs=2,
                callbacks=[*callbacks, forgetting(lateness)],
                shuffle=False,
                verbose=0,
            )
            return list(fitted.history["input_wait"])

        assert all(0.4 < part < 0.99 for part in undisturbed(measure))
    assert watchdog.seconds[0]["input"] > 5 * 0.09
    for line in steps(tmp_path):
        assert sum(line["phases"].values()) == pytest.approx(line["seconds"], rel=WALL, abs=1e-3)


def test_a_file_is_continued_after_a_line_that_was_cut_off(one_device: Any, tmp_path: Path) -> None:
    (tmp_path / "monitor-0.jsonl").write_text('{"event": "st', "utf-8")
    dense(one_device).fit(*rows(8), callbacks=[Monitor(tmp_path)], verbose=0)
    text = (tmp_path / "monitor-0.jsonl").read_text("utf-8").splitlines()
    assert text[0] == '{"event": "st'
    assert [json.loads(line)["event"] for line in text[1:]] == ["begin", "steps", "steps", "end"]


def test_a_line_of_which_the_system_writes_a_part_at_a_time_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:7]))
    journal = Journal(tmp_path, 0)
    journal.write(stamped("end", {"position": 5}))
    journal.close()
    (line,) = lines(tmp_path)
    assert line["position"] == 5


def test_two_monitors_do_not_write_one_file(one_device: Any, tmp_path: Path) -> None:
    both = [Monitor(tmp_path), Monitor(tmp_path / ".")]
    with pytest.raises(ValueError, match="`callbacks` must have one Monitor for a folder"):
        dense(one_device).fit(*rows(8), callbacks=both, verbose=0)
    built = dense(one_device)
    built.fit(*rows(8), callbacks=[Monitor(tmp_path), Monitor(), Monitor()], verbose=0)


def test_a_fit_without_an_epoch_after_another_one_has_its_lines(
    one_device: Any, tmp_path: Path
) -> None:
    built, monitor = dense(one_device), Monitor(tmp_path)
    built.fit(*rows(8), callbacks=[monitor], verbose=0)
    built.fit(*rows(8), callbacks=[monitor], initial_epoch=1, epochs=1, verbose=0)
    events = [line["event"] for line in lines(tmp_path)]
    assert events == ["begin", "steps", "steps", "end", "begin", "end"]


class Fails(keras.callbacks.Callback):
    """Raises after three steps, 0.3 s after the heartbeat had the last of them."""

    def __init__(self, heartbeat: Path) -> None:
        super().__init__()
        self._heartbeat = heartbeat

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == 2:
            until(self._has_beaten, 60, lambda: self._heartbeat.read_text("utf-8"))
            time.sleep(0.3)
            raise OSError("on purpose")

    def _has_beaten(self) -> bool:
        with contextlib.suppress(ValueError):  # it is being written
            return bool(json.loads(self._heartbeat.read_text("utf-8"))["position"] == 3)
        return False


def test_only_a_fit_that_does_not_end_by_itself_leaves_a_heartbeat(
    one_device: Any, tmp_path: Path
) -> None:
    left = tmp_path / "heartbeat-0.json"
    built = model(one_device, 0.05)
    ones = np.ones([4 * 8, 1], "float32")
    with pytest.raises(OSError, match="on purpose"):
        built.fit(ones, ones, batch_size=4, callbacks=[Monitor(tmp_path), Fails(left)], verbose=0)
    beat = json.loads(left.read_text("utf-8"))
    assert (beat["steps"], beat["position"]) == (2, 3)  # the first step has a line of its own
    # A step and a part of another: two steps of 0.05 s, and the pause.
    parts = [beat["phases"][name] + beat["step_phases"][name] for name in beat["phases"]]
    assert sum(parts) > 0.4
    assert beat["phases"]["compute"] + beat["step_phases"]["compute"] > 0.09
    assert beat["step_phases"]["callbacks"] > 0.1
    built.fit(ones, ones, batch_size=4, callbacks=[Monitor(tmp_path)], verbose=0)
    assert not left.exists()
    events = [line["event"] for line in lines(tmp_path)]
    assert events[:4] == ["begin", "steps", "heartbeat", "begin"]
    assert events[-1] == "end"
    good = tfscale.monitor.goodput(tmp_path)
    assert (good.starts, good.seconds["lost_work"]) == (1, 0)


def test_a_model_whose_sizes_are_hidden_is_monitored_without_operations(
    one_device: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with one_device.scope():
        built = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])
        built.compile("sgd", "mse")
    lengths = tf.data.Dataset.from_generator(
        lambda: ((np.ones([4, n, 3]), np.ones([4, n, 2])) for n in (2, 3)),
        output_signature=(tf.TensorSpec([4, None, 3]), tf.TensorSpec([4, None, 2])),
    )
    built.fit(lengths, callbacks=[Monitor(tmp_path)], verbose=0)
    assert "Monitor does not count operations: `batch` must have known" in capsys.readouterr().err
    assert all("flops" not in line for line in steps(tmp_path))


def test_trackers_get_the_numbers_of_each_line(one_device: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    board = tmp_path / "board"
    trackers = [
        lambda step, values: seen.append((step, values)),
        tfscale.monitor.tensorboard(board),
    ]
    dense(one_device).fit(
        *rows(64), callbacks=[Monitor(tmp_path, trackers=trackers)], epochs=2, verbose=0
    )
    found = steps(tmp_path)
    assert [step for step, _ in seen] == [line["position"] for line in found]
    for (_, values), line in zip(seen, found, strict=True):
        parts = [value for name, value in values.items() if name.startswith("phases/")]
        assert sum(parts) == pytest.approx(1, rel=WALL)
        assert values["examples_per_second"] == line["examples_per_second"]
    read = tf.compat.v1.train.summary_iterator
    events = [event for path in board.iterdir() for event in read(str(path))]
    tags = {value.tag for event in events for value in event.summary.value}
    assert tags == {f"monitor/{name}" for _, values in seen for name in values}


def test_a_model_that_is_not_under_a_strategy_is_refused() -> None:
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"`model` must be .* to use Monitor"):
        plain.fit(*rows(4), callbacks=[Monitor()], verbose=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"folder": "gs://bucket/run"}, "`folder` must be a path of a local folder"),
        ({"folder": 5}, "`folder` must be a path of a local folder"),
        ({"folder": b"run"}, "`folder` must be a path of a local folder"),
        ({"folder": ""}, "`folder` must be a path of a local folder"),
        ({"folder": "a\0b"}, "`folder` must be a path of a local folder"),
        ({"every_seconds": -1}, "`every_seconds` must be a number of seconds, 0 or more"),
        ({"peak_flops": 0}, "`peak_flops` must be a positive number of operations"),
        ({"peak_flops": "fast"}, "`peak_flops` must be a positive number of operations"),
        ({"flops": 1}, "`flops` must be"),
        ({"in_logs": "yes"}, "`in_logs` must be"),
        ({"norms": 1.5}, "`norms` must be"),
        ({"energy": "yes"}, "`energy` must be"),
        ({"processor_watts": 9.0}, "`processor_watts` must be given with energy=True"),
        ({"energy": True, "processor_watts": 0}, "`processor_watts` must be a positive number"),
        ({"energy": True, "carbon_intensity": -1}, "`carbon_intensity` must be a positive number"),
        ({"trackers": [len, "tensorboard"]}, r"`trackers\[1\]` must be a function"),
        ({"trackers": "tensorboard"}, "`trackers` must be a sequence"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Monitor(**arguments)
