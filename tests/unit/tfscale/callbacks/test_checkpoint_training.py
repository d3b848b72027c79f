"""What the Checkpoint callback refuses, what it waits for, and what it leaves unchanged."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tfscale.callbacks import Checkpoint, LocalUpdates, Stability
from tfscale.checkpoints import CheckpointDirectory
from tfscale.checkpoints.background_writer import BackgroundWriter
from tfscale.checkpoints.state import SnapshotMemory, snapshot, training_variables

ROWS = np.arange(12.0, dtype=np.float32).reshape(12, 1) / 12


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.one_device_strategy("CPU:0")


class StopAfter(keras.callbacks.Callback):
    """Ends `fit` after so many batches: by a wish, or by an error."""

    def __init__(self, batches: int, error: Exception | None = None) -> None:
        super().__init__()
        self.left = batches
        self.error = error

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0 and self.error:
            raise self.error
        if self.left == 0:
            self.model.stop_training = True


def made(strategy: tf.distribute.Strategy, units: int = 1, **compiling: Any) -> keras.Model:
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(units)])
        model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": "mse", **compiling})
    return model


def fit(
    model: keras.Model, checkpoint: keras.callbacks.Callback, *others: Any, **arguments: Any
) -> Any:
    """Trains 2 epochs of 3 batches."""
    given = {"x": ROWS, "y": ROWS, "batch_size": 4, "shuffle": False, "epochs": 2, **arguments}
    return model.fit(**given, callbacks=[checkpoint, *others], verbose=0)


class Sequence(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return ROWS[:4], ROWS[:4]


def endless() -> Iterator[Any]:
    while True:
        yield ROWS[:4], ROWS[:4]


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (Sequence, {}),
        (endless, {"steps_per_epoch": 3}),
        (lambda: tf.data.Dataset.from_tensor_slices((ROWS, ROWS)).batch(4).filter(any_of), {}),
    ],
    ids=["PyDataset", "generator", "unknown length"],
)
def test_input_that_cannot_be_read_again_is_refused(
    strategy: tf.distribute.Strategy, tmp_path: Path, data: Any, arguments: Any
) -> None:
    given = {"x": data(), "y": None, "batch_size": None, "shuffle": True, **arguments}
    with pytest.raises(ValueError, match="`x` must be input that can be read from any batch"):
        fit(made(strategy), Checkpoint(tmp_path), **given)


def any_of(*_: Any) -> Any:
    return tf.constant(True)


def test_a_shuffle_without_a_seed_is_refused_in_mid_epoch_only(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    tf.random.set_seed(None)
    model = made(strategy)
    with pytest.raises(ValueError, match=r"Call keras\.utils\.set_random_seed first"):
        fit(model, Checkpoint(tmp_path, every=2), shuffle=True)
    fit(model, Checkpoint(tmp_path), shuffle=True)
    assert CheckpointDirectory(tmp_path).steps() == [3, 6]


def test_local_updates_are_saved_at_the_ends_of_epochs_only(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="`every` must be 'epoch' with LocalUpdates"):
        fit(made(strategy), Checkpoint(tmp_path, every=2), LocalUpdates(every=2))


def test_a_fit_that_stops_in_mid_epoch_is_saved_there(
    strategy: tf.distribute.Strategy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made(strategy)
    checkpoint = Checkpoint(tmp_path, every=100)
    fit(model, checkpoint, StopAfter(4))
    assert CheckpointDirectory(tmp_path).steps() == [4]
    resumed = Checkpoint(tmp_path, every=100)
    fit(model, resumed)
    assert vars(resumed.resumed_from) == {"epoch": 1, "step": 1, "batches": 4}
    assert vars(resumed.position) == {"epoch": 2, "step": 0, "batches": 6}
    assert f"resuming from {tmp_path} after 1 of 2 epochs, 1 batch.\n" in capsys.readouterr().err


def test_a_resumed_fit_says_how_many_epochs_are_done(
    strategy: tf.distribute.Strategy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made(strategy)
    fit(model, Checkpoint(tmp_path), epochs=1)
    capsys.readouterr()
    fit(model, Checkpoint(tmp_path), epochs=1)
    assert f"resuming from {tmp_path} after 1 of 1 epoch.\n" in capsys.readouterr().err
    fit(model, Checkpoint(tmp_path), epochs=2)
    assert f"resuming from {tmp_path} after 1 of 2 epochs.\n" in capsys.readouterr().err
    fit(model, Checkpoint(tmp_path), epochs=1)
    said = capsys.readouterr().err
    assert f"resuming from {tmp_path} after 2 epochs.\n" in said
    assert "`epochs` is 1: training is already complete.\n" in said


def test_a_position_in_other_input_or_another_model_is_refused(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    model = made(strategy)
    fit(model, Checkpoint(tmp_path, every=2), StopAfter(4))
    with pytest.raises(ValueError, match=r"must be the input that was checkpointed .*3 steps"):
        fit(model, Checkpoint(tmp_path, every=2), batch_size=2)
    with pytest.raises(ValueError, match=r"`model` must be the one .*kernel"):
        fit(made(strategy, units=2), Checkpoint(tmp_path, every=2))
    adam = made(strategy, optimizer="adam")
    with pytest.raises(ValueError, match=r"Not in the checkpoint: \['optimizer/adam"):
        fit(adam, Checkpoint(tmp_path, every=2))


class Epochs(keras.callbacks.Callback):
    """Notes the epochs that are trained."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(epoch)


def test_an_initial_epoch_that_contradicts_the_checkpoint_is_refused(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    model = made(strategy)
    rule = r"must be 0, or the epoch of the newest checkpoint, {}\. .*initial_epoch={}\."
    fit(model, Checkpoint(tmp_path, every=2), StopAfter(2))
    with pytest.raises(ValueError, match=rule.format(0, 1)):
        fit(model, Checkpoint(tmp_path, every=2), initial_epoch=1)
    fit(model, Checkpoint(tmp_path, every=2))
    for wrong in (1, 3):
        with pytest.raises(ValueError, match=rule.format(2, wrong)):
            fit(model, Checkpoint(tmp_path, every=2), epochs=5, initial_epoch=wrong)
    assert CheckpointDirectory(tmp_path).steps() == [2, 4, 6]


def test_an_initial_epoch_that_agrees_with_the_checkpoint_is_where_training_goes_on(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    model = made(strategy)
    for first, last, stop, trained, position in (
        (1, 3, 4, [1, 2], (2, 1, 4)),
        (1, 3, 0, [2], (3, 0, 6)),  # the same program, started again
        (3, 4, 1, [3], (3, 1, 7)),
        (0, 4, 0, [3], (4, 0, 9)),
        (3, 5, 0, [4], (5, 0, 12)),
    ):
        epochs, checkpoint = Epochs(), Checkpoint(tmp_path, every=2)
        fit(model, checkpoint, epochs, StopAfter(stop), initial_epoch=first, epochs=last)
        assert epochs.seen == trained
        assert tuple(vars(checkpoint.position).values()) == position


def test_with_steps_per_epoch_the_stream_goes_on_at_its_batch(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    """One stream of 6 batches runs through 3 epochs of 2; it is stopped after the third."""
    rows = np.linspace(0.0, 1.0, 24, dtype=np.float32).reshape(24, 1)
    batches = tf.data.Dataset.from_tensor_slices((rows, rows**2)).batch(4)
    given = {"x": batches, "y": None, "batch_size": None, "steps_per_epoch": 2, "epochs": 3}
    whole, stopped, resumed = (made(strategy) for _ in range(3))
    for model in (stopped, resumed):
        model.set_weights(whole.get_weights())
    fit(whole, Checkpoint(tmp_path / "whole", every=1), **given)
    fit(stopped, Checkpoint(tmp_path / "run", every=1), StopAfter(3), **given)
    fit(resumed, Checkpoint(tmp_path / "run", every=1), **given)
    for found, wanted in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())


def test_stability_judges_on_by_the_window_of_the_run_before(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    """12 batches; a NaN in the third, a spike in the eleventh, interrupted after the eighth."""
    rows = np.random.default_rng(0).normal(size=[48, 1]).astype(np.float32)
    targets = 3 * rows
    targets[8], targets[40] = np.nan, 1e6
    given = {"x": rows, "y": targets, "epochs": 1}
    whole, first, second = (Stability(window=8, warmup_steps=6) for _ in range(3))
    models = [made(strategy) for _ in range(3)]
    for model in models[1:]:
        model.set_weights(models[0].get_weights())
    fit(models[0], Checkpoint(tmp_path / "whole", every=2), whole, **given)
    killed = StopAfter(8, RuntimeError("killed"))
    with pytest.raises(RuntimeError, match="killed"):
        fit(models[1], Checkpoint(tmp_path / "run", every=2), first, killed, **given)
    fit(models[2], Checkpoint(tmp_path / "run", every=2), second, **given)
    assert [event.step for event in whole.events] == [2, 10]
    assert repr(second.events) == repr(whole.events)
    with pytest.raises(ValueError, match="`window` must be that of the checkpointed run"):
        fit(models[2], Checkpoint(tmp_path / "run", every=2), Stability(window=9), **given)


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(
    strategy: tf.distribute.Strategy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = made(strategy)
    fit(model, Checkpoint(tmp_path, every=2))
    whole = [v.numpy() for v in model.variables]
    (tmp_path / "step-000000000006" / "tensors-00000.bin").write_bytes(b"")
    resumed = Checkpoint(tmp_path, every=2)
    fit(model, resumed)
    assert vars(resumed.resumed_from) == {"epoch": 1, "step": 1, "batches": 4}
    assert "step-000000000006 is damaged" in capfd.readouterr().err
    for found, wanted in zip(model.variables, whole, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)


def test_a_rate_that_another_callback_lowers_is_lowered_once_an_epoch(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    """0.1 times 0.5 at the beginning of each of 2 epochs is 0.025, interrupted or not."""
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    model = made(strategy)
    with pytest.raises(RuntimeError, match="killed"):
        fit(model, Checkpoint(tmp_path, every=2), halve, StopAfter(5, RuntimeError("killed")))
    resumed = made(strategy)
    fit(resumed, Checkpoint(tmp_path, every=2), halve)
    assert float(resumed.optimizer.learning_rate.numpy()) == pytest.approx(0.025)


@pytest.mark.parametrize("every", ["epoch", 2])
def test_a_rate_that_the_program_changed_is_said_until_a_callback_sets_it(
    strategy: tf.distribute.Strategy, tmp_path: Path, capsys: Any, every: Any
) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        fit(
            made(strategy),
            Checkpoint(tmp_path, every=every, asynchronous=False),
            StopAfter(5, RuntimeError("killed")),
        )
    killed = CheckpointDirectory(tmp_path).newest()
    assert killed is not None
    assert bool(killed.position.step) is (every == 2)

    def resumed(rate: float, *others: Any, epochs: int) -> tuple[float, list[str]]:
        model = made(strategy, optimizer=keras.optimizers.SGD(rate))
        fit(model, Checkpoint(tmp_path, every=every), *others, epochs=epochs)
        said = [line for line in capsys.readouterr().err.splitlines() if "learning_rate" in line]
        return round(float(model.optimizer.learning_rate.numpy()), 6), said

    rate, (line,) = resumed(0.01, epochs=2)
    assert rate == 0.1
    assert line == (
        "tfscale: learning_rate is 0.1, restored from the checkpoint, not 0.01 as set in this "
        "program. To change it, pass to fit the callback "
        "keras.callbacks.LearningRateScheduler(lambda epoch: "
        "0.01)."
    )
    assert resumed(0.1, epochs=3) == (0.1, [])
    cure = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01)
    assert resumed(0.01, cure, epochs=4) == (0.01, [])
    schedule: Any = keras.optimizers.schedules.CosineDecay(0.5, decay_steps=100)
    with pytest.raises(ValueError, match="model` must be the one that was checkpointed"):
        resumed(schedule, epochs=5)


def test_accumulated_gradients_and_the_loss_scale_are_part_of_the_state(
    strategy: tf.distribute.Strategy,
) -> None:
    with strategy.scope():
        inner = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)
        model = made(strategy, optimizer=keras.optimizers.LossScaleOptimizer(inner))
        model.optimizer.build(model.trainable_variables)
    keys = " ".join(training_variables(model))
    for part in ("dynamic_scale", "step_counter", "gradient_accumulator", "momentum", "iteration"):
        assert part in keys


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_goes_on_without_changing_a_snapshot(
    strategy: tf.distribute.Strategy, jit_compile: bool
) -> None:
    """Copied only after six steps, the snapshot is what a copy taken at once would be."""
    with strategy.scope():
        layers = [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(5, 4),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
        model = keras.Sequential(layers)
        optimizer = keras.optimizers.Adam(0.1, use_ema=True, gradient_accumulation_steps=2)
        model.compile(optimizer, "mse", metrics=["mae"], jit_compile=jit_compile)
    x, y = np.arange(72).reshape(24, 3) % 5, np.ones([24, 1])
    arguments = {"batch_size": 4, "verbose": 0, "shuffle": False}
    model.fit(x, y, **arguments)
    memory = SnapshotMemory()
    snapshot(model, with_metrics=True, memory=memory)  # which has no memory to lie in yet
    variables = training_variables(model)
    wanted = {key: np.array(variable.numpy()) for key, variable in variables.items()}
    taken = snapshot(model, with_metrics=True, memory=memory)
    model.fit(x, y, **arguments)
    memory.fill()
    changed = [key for key, v in variables.items() if not np.array_equal(v.numpy(), wanted[key])]
    assert len(changed) > 10
    for key, values in taken.items():
        found = values.array.sum(0) if values.is_per_replica else values.array
        np.testing.assert_array_equal(found, wanted[key], err_msg=key)


def test_a_write_that_fails_ends_training_and_says_so(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    class Blocks(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            (tmp_path / "run").write_text("no folder any more")

    with pytest.raises(OSError, match=r"could not be written to .*run: .*Earlier ones are intact"):
        fit(made(strategy), Checkpoint(tmp_path / "run", every=1), Blocks())


def test_a_second_write_waits_for_the_first() -> None:
    writer, other, gate = BackgroundWriter("a"), BackgroundWriter("b"), threading.Event()
    done: list[str] = []

    def write() -> None:
        gate.wait(60)
        done.append("first")

    writer.begin(write)
    other.wait()  # goes elsewhere
    assert done == []
    threading.Timer(0.1, gate.set).start()
    BackgroundWriter("a").wait()
    assert done == ["first"]


def test_an_error_of_a_write_is_raised_once() -> None:
    writer = BackgroundWriter("a")

    def fails() -> None:
        raise OSError("full")

    writer.begin(fails)
    with pytest.raises(OSError, match="full"):
        writer.wait()
    writer.wait()
    writer.check()
