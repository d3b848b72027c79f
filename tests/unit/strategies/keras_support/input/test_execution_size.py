"""Several short steps in one execution: when, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from strategies.extension import last_execution_size
from strategies.keras_support.input import execution_size
from strategies.keras_support.step.train_function import TrainFunction

pytestmark = pytest.mark.own_process

X = np.random.default_rng(0).normal(size=(400, 3)).astype("float32")
Y = X[:, :2] - X[:, 1:]
STEPS = 58  # of 7 rows, and the last of one
OPTIONS: dict[str, Any] = {"batch_size": 7, "shuffle": False, "verbose": 0}


@pytest.fixture(scope="module", autouse=True)
def two_replicas() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(num_replicas=2)  # first of all: it makes the devices


@pytest.fixture(scope="module")
def one_device(two_replicas: tf.distribute.Strategy) -> tf.distribute.Strategy:
    return strategies.one_device_strategy("CPU:0")


@pytest.fixture(autouse=True)
def short_fits_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_size, "SAVED_SECONDS", 1e9)
    monkeypatch.setattr(execution_size, "LONGEST_STEP_SECONDS", 1e9)
    monkeypatch.setattr(execution_size, "EXECUTION_SECONDS", 0.1)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of each execution."""
    seen: list[int] = []
    call = TrainFunction.__call__

    def counted(self: Any, execution: Any) -> Any:
        seen.append(execution.count)
        return call(self, execution)

    monkeypatch.setattr(TrainFunction, "__call__", counted)
    return seen


def compiled(strategy: tf.distribute.Strategy, *more: Any, **arguments: Any) -> Any:
    keras.utils.set_random_seed(5)
    with strategy.scope():
        layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.3), keras.layers.Dense(2)]
        model = keras.Sequential([keras.Input((3,)), *more, *layers])
        model.compile("adam", "mse", metrics=["mae"], **arguments)
    return model


class EachBatch(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches.append(batch)


class BeginOfBatch(keras.callbacks.Callback):
    def on_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        pass


class HookSetLater(keras.callbacks.Callback):
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.batches: list[int] = []
        self.on_train_batch_end = lambda batch, logs=None: self.batches.append(batch)


class OfNoClassOfKeras:
    """Keras takes any class that has the hooks that it calls."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def ignore(self, *arguments: Any, **named: Any) -> None:
        pass

    set_params = set_model = on_train_begin = on_train_end = ignore
    on_epoch_begin = on_epoch_end = on_train_batch_begin = ignore

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches.append(batch)


class Indifferent(EachBatch):
    needs_every_batch = False


def test_weights_and_history_equal_those_of_stock_keras_bit_by_bit(
    one_device: tf.distribute.Strategy, counts: list[int]
) -> None:
    stock, own = compiled(tf.distribute.get_strategy()), compiled(one_device)
    expected = stock.fit(X, Y, epochs=3, **OPTIONS).history
    assert own.fit(X, Y, epochs=3, **OPTIONS).history == expected
    for ours, theirs in zip(own.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert sum(counts) == 3 * STEPS
    assert max(counts) > 4


def test_two_replicas_take_the_same_steps_together_and_one_by_one(
    two_replicas: tf.distribute.Strategy, counts: list[int]
) -> None:
    single = compiled(two_replicas, steps_per_execution=1)
    expected = single.fit(X, Y, epochs=2, **OPTIONS).history
    assert set(counts) == {1}
    together = compiled(two_replicas)
    assert together.fit(X, Y, epochs=2, **OPTIONS).history == expected
    for ours, theirs in zip(together.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert max(counts) > 4


@pytest.mark.parametrize(
    "callback",
    [
        EachBatch(),
        BeginOfBatch(),
        HookSetLater(),
        OfNoClassOfKeras(),
        keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None),
    ],
)
def test_a_callback_with_a_hook_for_batches_gets_every_batch(
    one_device: tf.distribute.Strategy, counts: list[int], callback: Any
) -> None:
    compiled(one_device).fit(X, Y, callbacks=[callback], **OPTIONS)
    assert counts == [1] * STEPS
    assert getattr(callback, "batches", list(range(STEPS))) == list(range(STEPS))
    assert "is called after each batch" in str(last_execution_size(one_device))


def test_callbacks_that_act_after_epochs_allow_larger_executions(
    one_device: tf.distribute.Strategy, counts: list[int], tmp_path: Any
) -> None:
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"),
        keras.callbacks.EarlyStopping("loss"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        tfscale.callbacks.Checkpoint(tmp_path / "run"),
        tfscale.callbacks.Watchdog(),
        Indifferent(),
    ]
    compiled(one_device).fit(X, Y, callbacks=callbacks, **{**OPTIONS, "verbose": 1})
    assert max(counts) > 4


@pytest.mark.parametrize("every", [3, 58])
def test_a_checkpoint_in_mid_epoch_takes_single_steps(
    one_device: tf.distribute.Strategy, counts: list[int], tmp_path: Any, every: int
) -> None:
    checkpoint = tfscale.callbacks.Checkpoint(tmp_path, every=every)
    compiled(one_device).fit(X, Y, callbacks=[checkpoint], **OPTIONS)
    assert set(counts) == {1}


def test_model_checkpoints_after_batches_take_single_steps(
    one_device: tf.distribute.Strategy, counts: list[int], tmp_path: Any
) -> None:
    saved = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras", save_freq=20)
    compiled(one_device).fit(X, Y, callbacks=[saved], **OPTIONS)
    assert set(counts) == {1}


def test_a_model_compiled_with_one_step_an_execution_keeps_it(
    one_device: tf.distribute.Strategy, counts: list[int]
) -> None:
    compiled(one_device, steps_per_execution=1).fit(X, Y, **OPTIONS)
    changed = compiled(one_device)
    changed.steps_per_execution = 1
    changed.fit(X, Y, **OPTIONS)
    compiled(one_device, run_eagerly=True).fit(X[:70], Y[:70], **OPTIONS)
    compiled(one_device, steps_per_execution=19).fit(X, Y, **OPTIONS)
    assert counts == [1] * (2 * STEPS + 10) + [19, 19, 19, 1]


class Noise(keras.layers.Layer):
    def call(self, x: Any, training: bool = False) -> Any:
        return x + tf.random.normal(tf.shape(x)) if training else x


def test_a_random_operation_with_a_state_of_its_own_takes_single_steps(
    one_device: tf.distribute.Strategy, counts: list[int]
) -> None:
    models = [compiled(one_device, Noise(), steps_per_execution=1), compiled(one_device, Noise())]
    weights = []
    for model in models:
        tf.random.set_seed(3)
        model.fit(X, Y, epochs=2, **OPTIONS)
        weights.append(model.get_weights())
    for single, own in zip(*weights, strict=True):
        np.testing.assert_array_equal(own, single)
    assert max(counts) > 4  # asked for, and then executed one by one
    assert str(last_execution_size(one_device)) == (
        "1 (RandomStandardNormal keeps its random state in the operation)"
    )


def test_rows_of_an_embedding_on_two_replicas_are_gathered_by_single_steps(
    two_replicas: tf.distribute.Strategy,
) -> None:
    with two_replicas.scope():
        layers = [keras.layers.Embedding(7, 4), keras.layers.GlobalAveragePooling1D()]
        model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
        model.compile("adam", "mse")
    tokens = np.arange(400 * 3).reshape(400, 3) % 7
    model.fit(tokens, Y[:, :1], **OPTIONS)
    assert "are gathered" in str(last_execution_size(two_replicas))


def test_a_batch_that_fails_leaves_as_many_updates_as_in_stock_keras(
    one_device: tf.distribute.Strategy, counts: list[int]
) -> None:
    def fail_at_step_50(i: tf.Tensor, row: Any) -> Any:
        checked = tf.debugging.assert_less(i, tf.constant(50 * 7, tf.int64))
        with tf.control_dependencies([checked]):
            return tf.identity(row[0]), row[1]

    rows = tf.data.Dataset.from_tensor_slices((X, Y)).enumerate().map(fail_at_step_50)
    updates = []
    for strategy in (tf.distribute.get_strategy(), one_device):
        model = compiled(strategy)
        with pytest.raises(tf.errors.InvalidArgumentError):
            model.fit(rows.batch(7).apply(tf.data.experimental.assert_cardinality(STEPS)))
        updates.append(int(model.optimizer.iterations.numpy()))
    assert updates[0] == updates[1] < STEPS
    assert max(counts) > 4


class OwnLogs(keras.Model):
    def train_step(self, data: Any) -> dict[str, Any]:
        return {**super().train_step(data), "x": tf.reduce_mean(data[0])}


@pytest.mark.parametrize(("kind", "is_single"), [(OwnLogs, True), (keras.Model, False)])
def test_input_that_ends_early_leaves_the_logs_of_its_last_batch(
    one_device: tf.distribute.Strategy, counts: list[int], kind: Any, is_single: bool
) -> None:
    rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(7).filter(lambda x, y: True)
    assert rows.cardinality() == tf.data.UNKNOWN_CARDINALITY
    found = []
    for strategy in (tf.distribute.get_strategy(), one_device):
        keras.utils.set_random_seed(5)
        with strategy.scope():
            model = kind(x := keras.Input((3,)), keras.layers.Dense(2)(x))
            model.compile("adam", "mse")
        found.append(model.fit(rows, steps_per_epoch=STEPS + 9, verbose=0).history)
        found.append(model.fit(rows.repeat(), steps_per_epoch=STEPS, verbose=0).history)
    assert found[:2] == found[2:]
    assert (max(counts[: STEPS + 1]) == 1) is is_single
    assert max(counts) > 4  # of what does not end


def test_what_changes_between_two_fits_without_compile_acts_as_in_stock_keras(
    one_device: tf.distribute.Strategy, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for strategy in (tf.distribute.get_strategy(), one_device):
        model = compiled(strategy)
        monkeypatch.setattr(execution_size, "SAVED_SECONDS", 0.0)  # the first one by single steps
        model.fit(X, Y, **OPTIONS)
        model.layers[0].trainable = False  # not compiled again: Keras goes on training it
        monkeypatch.setattr(execution_size, "SAVED_SECONDS", 1e9)
        model.fit(X, Y, **OPTIONS)
        weights.append(model.get_weights())
    for theirs, ours in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert counts[:STEPS] == [1] * STEPS
    assert max(counts) > 4


def test_a_wrapped_train_function_is_called_for_every_step(
    one_device: tf.distribute.Strategy,
) -> None:
    model, calls = compiled(one_device), []
    own = model.make_train_function()

    def wrapped(execution: Any) -> Any:
        calls.append(execution)
        return own(execution)

    model.train_function = wrapped
    model.fit(X, Y, **OPTIONS)
    assert len(calls) == STEPS


def test_the_last_line_of_the_progress_bar_is_that_of_stock_keras(
    one_device: tf.distribute.Strategy, counts: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    ends = []
    for strategy in (tf.distribute.get_strategy(), one_device):
        compiled(strategy).fit(X, Y, **{**OPTIONS, "verbose": 1})
        last = capsys.readouterr().out.rstrip().rpartition("\r")[2].splitlines()[-1]
        ends.append((f"{STEPS}/{STEPS}" in last, last[last.index("loss:") :]))
    assert ends[0] == ends[1]
    assert ends[1][0]
    assert max(counts) > 4


def test_a_report_names_the_size_of_the_executions(one_device: tf.distribute.Strategy) -> None:
    from tfscale.report.run_environment import environment

    compiled(one_device).fit(X, Y, **OPTIONS)
    steps, _, reason = str(environment(one_device)["steps per execution"]).partition(" ")
    assert int(steps) > 4
    assert reason.startswith("(a step takes ")
