"""A disk that is full does not end a training, and no second is lost in the record of Monitor."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import strategies
from tfscale.callbacks import Monitor
from tfscale.monitor import goodput
from tfscale.monitor.summed_lines import summed
from tfscale.report.gaps import gaps
from tfscale.report.monitored import read_monitor

pytestmark = pytest.mark.own_process
STEPS, FULL, ROOM = 12, 4, 9


@pytest.fixture(scope="module")
def one_device() -> strategies.Strategy:
    return strategies.one_device_strategy()


class Disk(keras.callbacks.Callback):
    """Lets no file grow from the end of a step on, and again from another one; steps take 20 ms."""

    def __init__(self, path: Path, *, room: int | None) -> None:
        super().__init__()
        self._path, self._room = path, room

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        time.sleep(0.02)
        if batch + 1 == FULL:  # a part of the next line fits
            limit(self._path.stat().st_size + 300)
        elif batch + 1 == self._room:
            limit(resource.RLIM_INFINITY)


def limit(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if hard == -1 else min(size, hard), hard))


@pytest.fixture(autouse=True)
def ends_the_limit() -> Iterator[None]:
    yield
    limit(resource.RLIM_INFINITY)


def train(
    strategy: Any, folder: Path, *callbacks: Any, steps: int = STEPS
) -> tuple[Monitor, keras.callbacks.History]:
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
    monitor = Monitor(folder, every_seconds=0, energy=True, processor_watts=10)
    x, y = np.ones([4 * steps, 3], "float32"), np.ones([4 * steps, 2], "float32")
    history = model.fit(x, y, batch_size=4, callbacks=[*callbacks, monitor], verbose=0)
    return monitor, history


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "monitor-0.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_lines_that_wait_for_room_become_one_with_their_sums(
    one_device: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    disk = Disk(tmp_path / "monitor-0.jsonl", room=ROOM)
    _, history = train(one_device, tmp_path, disk)
    assert len(history.history["loss"]) == 1
    found = lines(tmp_path)  # no part of a line that did not fit
    assert [line["event"] for line in found] == ["begin", *["steps"] * (len(found) - 2), "end"]
    late = [line for line in found if "unwritten" in line]
    assert len(late) == 1
    assert late[0]["unwritten"]["error"] == os.strerror(27)
    assert late[0]["unwritten"]["lines"] >= 2
    steps = [line for line in found if line["event"] == "steps"]
    assert sum(line["steps"] for line in steps) == STEPS
    assert sum(line["examples"] for line in steps) == 4 * STEPS
    assert late[0]["position"] - late[0]["steps"] < ROOM <= late[0]["position"] + 1
    for line in steps:
        assert sum(line["phases"].values()) == pytest.approx(line["seconds"], rel=0.02, abs=1e-3)
    assert late[0]["seconds"] > (late[0]["steps"] - 1) * 0.02
    joules = 10 * sum(line["energy"]["processors"]["joules"] / 10 for line in steps)
    assert joules > 0
    whole = found[-1]["clock"] - found[0]["clock"]
    good = goodput(tmp_path)
    assert good.total == pytest.approx(whole + found[0]["clock"] - found[0]["process_began"])
    said = capfd.readouterr().err
    assert said.count("Monitor cannot write") == 1
    assert "Training goes on" in said
    assert said.count("Monitor writes monitor-0.jsonl again") == 1
    (sentence,) = gaps(read_monitor(tmp_path))
    assert f"could not write from step {late[0]['position'] - late[0]['steps']} to" in sentence
    assert not (tmp_path / "heartbeat-0.json").exists()


def test_a_disk_that_stays_full_leaves_the_time_in_the_heartbeat(
    one_device: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(one_device, tmp_path, Disk(tmp_path / "monitor-0.jsonl", room=None))
    limit(resource.RLIM_INFINITY)
    found = lines(tmp_path)
    written = found[-1]["position"]
    assert found[-1]["event"] == "steps"
    assert written < STEPS
    beat = json.loads((tmp_path / "heartbeat-0.json").read_text("utf-8"))
    assert (beat["position"], beat["steps"]) == (STEPS, STEPS - written)
    seconds = sum(beat["phases"].values()) + sum(beat["step_phases"].values())
    assert seconds == pytest.approx(beat["clock"] - found[-1]["clock"], rel=0.02, abs=5e-3)
    said = capfd.readouterr().err
    assert said.count("Monitor cannot write") == 1
    assert "Monitor could not write the end of monitor-0.jsonl" in said
    (sentence,) = gaps(read_monitor(tmp_path))
    assert f"from step {written} to the end at step {STEPS}" in sentence
    # The next process keeps it.
    train(one_device, tmp_path)
    events = [line["event"] for line in lines(tmp_path)]
    assert events.index("heartbeat") == len(found)
    assert events[len(found) + 1] == "begin"
    assert len(gaps(read_monitor(tmp_path))) == 1
    assert goodput(tmp_path).seconds["step"] > 0


def test_a_disk_that_is_full_from_the_beginning_ends_nothing(
    one_device: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "monitor-0.jsonl").symlink_to("/dev/full")
    monitor, _ = train(one_device, tmp_path)
    assert monitor.last is not None
    assert monitor.last["position"] == STEPS
    said = capfd.readouterr().err
    assert said.count("Monitor cannot write") == 1
    assert "Nothing of this training is in it" in said


@pytest.mark.thorough
def test_a_small_file_system_that_is_really_full(one_device: Any, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system, such as root's")

    class Fill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch + 1 == FULL:
                with (small / "other").open("wb", 0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * 512)
            elif batch + 1 == 40:  # after more lines than fit into the last page of the file
                (small / "other").unlink()

    try:
        train(one_device, small, Fill(), steps=50)
        found = lines(small)
        assert [line["event"] for line in found][-1] == "end"
        assert sum(line["steps"] for line in found if line["event"] == "steps") == 50
        late = [line["unwritten"] for line in found if "unwritten" in line]
        assert [each["error"] for each in late] == ["No space left on device"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_lines_are_summed_by_what_they_count() -> None:
    one = {"steps": 2, "seconds": 1.0, "examples": 8, "phases": {"compute": 1.0}, "flops": 10}
    two = {"steps": 1, "seconds": 3.0, "examples": 4, "phases": {"compute": 3.0}, "flops": 6}
    read = {"processors": {"joules": 2.0, "source": "rapl"}}
    found = summed(
        {**one, "utilization": 0.4, "energy": read, "energy_unread": {"GPU-0": 1.0}},
        {**two, "utilization": 0.8, "energy": read, "network": {"sent": 3}, "loss_scale": 2.0},
    )
    assert found == {
        "steps": 3,
        "seconds": 4.0,
        "examples": 12,
        "examples_per_second": 3.0,
        "phases": {"compute": 4.0},
        "flops": 16,
        "utilization": pytest.approx((0.4 + 3 * 0.8) / 4),
        "energy": {"processors": {"joules": 4.0, "source": "rapl"}},
        "network": {"sent": 3},
        "loss_scale": 2.0,
    }


class Removes(keras.callbacks.Callback):
    """Removes a folder after the fourth step."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == FULL:
            shutil.rmtree(self._folder)


def test_a_folder_that_is_removed_is_said(
    one_device: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "monitor"
    train(one_device, folder, Removes(folder))
    said = capfd.readouterr().err
    assert said.count("The file was removed. Training goes on. What it records") == 1
    assert "What was written before is gone with the file." in said
    assert "Make room" not in said
