"""Of two jobs that save to one folder exactly one trains, and none of its saves fails."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import strategies
from tests.object_store import object_store, object_store_missing
from tests.programs import ROOT, own_environment
from tests.unit.tfscale.checkpoints.leases import QUICK, elsewhere, held, lease_of, leases_in
from tfscale.callbacks import Checkpoint
from tfscale.checkpoints import CheckpointDirectory
from tfscale.checkpoints.lease import Lease
from tfscale.checkpoints.lease_protocol import FolderTaken, TakenOver

PROGRAM = Path(__file__).with_name("one_job_training.py")
ROWS = np.ones([6, 1])


@pytest.fixture(scope="module")
def model() -> Any:
    with strategies.one_device_strategy("CPU:0").scope():
        made = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        made.compile("sgd", "mse")
    return made


def fit(model: Any, checkpoint: Checkpoint, *others: Any, epochs: int = 1) -> None:
    """Trains 6 steps an epoch."""
    callbacks = [checkpoint, *others]
    given = {"batch_size": 1, "shuffle": False, "verbose": 0, "epochs": epochs}
    model.fit(ROWS, ROWS, callbacks=callbacks, **given)


def own_lease(checkpoint: Checkpoint) -> Lease:
    assert checkpoint._lease is not None
    return checkpoint._lease._lease


class At(keras.callbacks.Callback):
    """Calls something after so many batches."""

    def __init__(self, batch: int, call: Any) -> None:
        super().__init__()
        self.batch = batch
        self.call = call

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == self.batch:
            self.call()


@pytest.mark.parametrize("scheme", ["local", "ram"])
def test_a_fit_is_refused_while_another_job_saves_to_its_folder(
    model: Any, tmp_path: Path, scheme: str
) -> None:
    place = str(tmp_path / "run") if scheme == "local" else f"ram://{tmp_path.name}"
    with held(place, elsewhere("first")):
        with pytest.raises(
            FolderTaken, match=r"`directory` must .* on host 'first' .* is using it"
        ):
            fit(model, Checkpoint(place))
        assert CheckpointDirectory(place).newest() is None  # reading needs no lease
    fit(model, Checkpoint(place))
    assert CheckpointDirectory(place).steps() == [6]


@pytest.mark.parametrize("scheme", ["local", "ram"])
def test_a_job_that_comes_during_a_fit_is_refused_and_costs_no_save(
    model: Any, tmp_path: Path, scheme: str
) -> None:
    place = str(tmp_path / "run") if scheme == "local" else f"ram://{tmp_path.name}"
    refused: list[str] = []

    def come() -> None:
        # The first job renews its lease every 10 s: its own clock goes on meanwhile.
        with pytest.raises(FolderTaken, match="is using it"):
            lease_of(place, elsewhere(), dataclasses.replace(QUICK, stale=60.0)).acquire()
        refused.append("come")

    thread = threading.Thread(target=come)
    saved = Checkpoint(place, every=1, keep=None)
    renewing = At(3, lambda: own_lease(saved)._run(own_lease(saved)._claimant.renew()))
    begin = At(1, thread.start)
    wait = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: thread.join(60))
    fit(model, saved, begin, At(2, lambda: time.sleep(0.3)), renewing, wait)
    assert refused == ["come"]
    assert CheckpointDirectory(place).steps() == [1, 2, 3, 4, 5, 6]


def test_a_fit_that_was_taken_over_ends_and_leaves_the_successors_checkpoints_alone(
    model: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint(tmp_path, every=1, keep=1)
    successor = lease_of(tmp_path, elsewhere("successor"), dataclasses.replace(QUICK, stale=600.0))

    def take_over() -> None:
        """As if this process had been stopped for minutes."""
        checkpoint._writer.wait()
        lease = own_lease(checkpoint)
        successor._claimant._records.append(lease.name)
        (tmp_path / lease.name).unlink()
        successor.acquire()
        lease._claimant.trusted_until = 0.0

    with pytest.raises(TakenOver, match=r"taken over the checkpoints in .* on host 'successor'"):
        fit(model, checkpoint, At(3, take_over))
    assert CheckpointDirectory(tmp_path).steps() == [3]
    assert [found["holder"]["host"] for found in leases_in(tmp_path)] == ["successor"]
    successor.check()
    successor.release()


def test_a_fit_that_fails_gives_the_folder_back(model: Any, tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("of the program")

    checkpoint = Checkpoint(tmp_path, every=1)
    with pytest.raises(RuntimeError, match="of the program"):
        fit(model, checkpoint, At(3, fail))
    checkpoint._writer.wait()
    assert leases_in(tmp_path) == []
    assert CheckpointDirectory(tmp_path).steps()


def test_two_callbacks_of_one_process_share_the_folder(model: Any, tmp_path: Path) -> None:
    fit(model, Checkpoint(tmp_path), Checkpoint(tmp_path, every=2, keep=None))
    assert leases_in(tmp_path) == []
    assert CheckpointDirectory(tmp_path).steps() == [2, 4, 6]


@pytest.mark.parametrize("kind", ["a file in its place", "a file above it", "a read-only folder"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(
    model: Any, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "run"
    if kind == "a file in its place":
        folder.write_text("")
    elif kind == "a file above it":
        folder.write_text("")
        folder = folder / "a"
    else:
        folder = Path("/sys/run")  # where not even the superuser can make one
    steps: list[int] = []
    with pytest.raises(ValueError, match=rf"`directory` must be .* create or write to.*{folder}"):
        fit(model, Checkpoint(folder), At(0, lambda: steps.append(0)))
    assert steps == []


class Training:
    """A training in a process of its own, and what it has printed."""

    def __init__(self, folder: str, steps: int, seconds: float, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), folder, str(steps), str(seconds)],
            cwd=ROOT,
            env={**own_environment(), **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def until(self, pattern: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if re.match(pattern, line):
                return line
        pytest.fail(f"no line {pattern!r}: {self.lines} {self.process.communicate()[1]}")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        output, errors = self.process.communicate(timeout=180)
        self.lines += output.splitlines()
        return errors


@contextlib.contextmanager
def trainings(*made: Training) -> Iterator[None]:
    try:
        for training in made:
            training.until("ready")
        for training in made:
            training.go()
        yield
    finally:
        for training in made:
            training.process.kill()
            training.process.wait()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "place",
    [
        "local",
        pytest.param(
            "object store",
            marks=pytest.mark.skipif(
                bool(object_store_missing()), reason=object_store_missing() or "-"
            ),
        ),
    ],
)
def test_of_two_trainings_at_once_one_trains_and_after_a_kill_it_resumes_at_once(
    tmp_path: Path, place: str
) -> None:
    with contextlib.ExitStack() as stack:
        variables, folder, steps = {}, str(tmp_path / "run"), 20
        if place == "object store":
            store = stack.enter_context(object_store(tmp_path, delay=0.05, lag=0.5))
            variables, folder = store.variables, "gs://bucket/run"
        first, second = (Training(folder, steps, 0.2, **variables) for _ in range(2))
        with trainings(first, second):
            said = [training.end() for training in (first, second)]
        assert sorted(training.lines[-1] for training in (first, second))[0] == "done", said
        refused = second if first.lines[-1] == "done" else first
        assert refused.lines[0] == "ready"
        assert refused.lines[-1].startswith("refused: `directory` must be a folder that no other")
        killed = Training(folder + "2", steps, 0.2, **variables)
        with trainings(killed):
            killed.until("step 8")
        again = Training(folder + "2", steps, 0.0, **variables)
        with trainings(again):
            begin = time.monotonic()
            again.until("step")
            seconds = time.monotonic() - begin
            said_again = again.end()
        assert again.lines[-1] == "done", said_again
        assert int(again.lines[1].split()[1]) in (7, 8, 9)
        assert "waiting to see" not in said_again
        assert seconds < 20
        for run in (folder, folder + "2"):
            if place == "local":
                found = CheckpointDirectory(run).steps()
            else:
                run = run.removeprefix("gs://")
                names = [f"{run}/step-{number:012d}/manifest.json" for number in range(steps + 1)]
                found = [number for number, name in enumerate(names) if name in store.contents]
            assert found == list(range(1, steps + 1))
