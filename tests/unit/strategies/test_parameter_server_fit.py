"""`fit` with two workers that train asynchronously; both servers run in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfscale
from strategies.keras_support.asynchronous.executions import Staleness, executions_of
from strategies.keras_support.asynchronous.input import EPOCHS_APART, worker_stream
from strategies.keras_support.input.epoch_iterator import ReplicaEpochIterator
from strategies.keras_support.input.pipeline_adapter import GlobalBatchesAdapter
from tests.callback_orders import OF_USER, callbacks_called
from tests.unit.strategies.servers_in_process import with_servers

pytestmark = pytest.mark.own_process

X = np.arange(40.0).reshape(20, 2)
Y = X.sum(1, keepdims=True)
Strategy: TypeAlias = tf.distribute.Strategy


@pytest.fixture(scope="module")
def strategy() -> Strategy:
    return with_servers()


def compiled(strategy: Strategy, **arguments: Any) -> keras.Model:
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        optimizer = keras.optimizers.SGD(arguments.pop("rate", 1e-5))
        model.compile(optimizer, arguments.pop("loss", "mse"), **arguments)
    return model


def test_two_workers_lose_no_step_and_no_metric_update(strategy: Strategy) -> None:
    class Batches(keras.metrics.Metric):
        def __init__(self) -> None:
            super().__init__(name="batches")
            self.count = self.add_variable((), "zeros")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.count.assign(self.count + 1)  # as in half of Keras's metrics

        def result(self) -> Any:
            return tf.convert_to_tensor(self.count)

    with strategy.scope():
        batches = Batches()
    model = compiled(strategy, metrics=[batches], steps_per_execution=4)
    history = model.fit(X, Y, batch_size=4, steps_per_epoch=202, epochs=2, verbose=0).history
    assert int(model.optimizer.iterations.numpy()) == 404  # 202 = 50 * 4 + 2
    assert history["batches"] == [202, 202]


def test_a_constant_gradient_moves_a_weight_once_per_step(strategy: Strategy) -> None:
    def slope(_: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
        return predicted  # its gradient is the mean input, for any weights

    model = compiled(strategy, rate=2.0**-10, loss=slope)
    before = model.get_weights()[0].astype("float64")
    model.fit(np.ones([8, 2]), np.ones([8, 1]), batch_size=4, steps_per_epoch=128, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], before - 128 / 1024, atol=1e-5)


def test_staleness_is_in_the_logs_of_an_epoch(strategy: Strategy) -> None:
    seen: list[Any] = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    model = compiled(strategy)
    history = model.fit(
        X, Y, batch_size=4, steps_per_epoch=100, verbose=0, callbacks=[note]
    ).history
    (mean,), (largest,) = history["staleness"], history["max_staleness"]
    assert 0 < mean <= largest < 100
    assert seen == [{"loss": history["loss"][0], "staleness": mean, "max_staleness": largest}]
    assert "staleness" not in model.evaluate(X, Y, verbose=0, return_dict=True)


def test_mean_staleness_counts_the_steps_of_all_executions() -> None:
    staleness = Staleness()
    assert np.isnan(staleness.mean)
    staleness.add(steps=4, total=5, largest=3)
    staleness.add(steps=1, total=0, largest=0)
    assert (staleness.mean, staleness.largest) == (1.0, 3)


def test_evaluate_and_predict_match_single_device_results(strategy: Strategy) -> None:
    model = compiled(strategy, metrics=["mae"])
    history = model.fit(X, Y, batch_size=4, validation_data=(X[:7], Y[:7]), verbose=0).history
    weights = model.get_weights()[0]
    predicted = X @ weights
    error = predicted - Y
    assert int(model.optimizer.iterations.numpy()) == 5  # 20 examples, of all workers together
    loss, mae = model.evaluate(X, Y, batch_size=6, verbose=0)
    np.testing.assert_allclose([loss, mae], [(error**2).mean(), abs(error).mean()], rtol=1e-5)
    # Both terms of a prediction may cancel, so float32's error is judged by their size.
    rounding = np.finfo("float32").eps * (abs(X) @ abs(weights))
    assert (abs(model.predict(X, batch_size=6, verbose=0) - predicted) <= rounding).all()
    np.testing.assert_allclose(history["val_mae"], abs(error[:7]).mean(), rtol=1e-5)


def test_a_saved_file_is_plain_keras(strategy: Strategy, tmp_path: Path) -> None:
    model = compiled(strategy)
    model.fit(X, Y, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    assert int(loaded.optimizer.iterations.numpy()) == 5


def test_a_custom_train_step_reports_its_logs(strategy: Strategy) -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.out = keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return self.out(inputs)

        def train_step(self, data: Any) -> Any:
            return {"loss": tf.constant(2.5), "half": tf.constant(0.5)}

    with strategy.scope():
        model = Own()
        model.compile(keras.optimizers.SGD())
    history = model.fit(X, Y, batch_size=4, verbose=0).history
    assert (history["loss"], history["half"]) == ([2.5], [0.5])
    assert np.isnan(history["staleness"]).all()


def test_a_second_fit_may_read_another_kind_of_batch(strategy: Strategy) -> None:
    seen: list[Any] = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: seen.append(logs))
    model = compiled(strategy)
    model.fit(X, Y, batch_size=4, verbose=0)
    weighted = tf.data.Dataset.from_tensors((X, Y, np.ones(20))).repeat()
    model.fit(weighted, steps_per_epoch=3, verbose=0, callbacks=[note])
    assert int(model.optimizer.iterations.numpy()) == 8
    assert np.isfinite([logs["loss"] for logs in seen]).all()


def test_a_checkpoint_resumes_at_the_epoch(strategy: Strategy, tmp_path: Path) -> None:
    for epochs, resumed, steps in ((1, None, 5), (3, 1, 15)):
        model = compiled(strategy)
        checkpoint = tfscale.callbacks.Checkpoint(tmp_path / "run")
        model.fit(X, Y, batch_size=4, epochs=epochs, callbacks=[checkpoint], verbose=0)
        at = checkpoint.resumed_from
        assert (at and at.epoch) == resumed
        assert int(model.optimizer.iterations.numpy()) == steps


def test_a_model_saved_in_mid_epoch_has_whole_steps(strategy: Strategy, tmp_path: Path) -> None:
    model = compiled(strategy)
    save = keras.callbacks.ModelCheckpoint(str(tmp_path / "{batch}.keras"), save_freq=10)
    model.fit(X, Y, batch_size=4, steps_per_epoch=25, callbacks=[save], verbose=0)
    steps = {
        path.stem: int(keras.models.load_model(path).optimizer.iterations.numpy())
        for path in tmp_path.iterdir()
    }
    assert steps == {"10": 10, "20": 20}


def test_train_on_batch_runs_on_the_chief(strategy: Strategy) -> None:
    model = compiled(strategy)
    weights = model.get_weights()[0]
    loss = model.train_on_batch(X, Y)
    np.testing.assert_allclose(loss, ((X @ weights - Y) ** 2).mean(), rtol=1e-5)
    assert int(model.optimizer.iterations.numpy()) == 1


def test_an_error_of_a_worker_is_raised_by_fit(strategy: Strategy) -> None:
    bad = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    bad = bad.map(lambda x, y: (tf.debugging.check_numerics(x / 0.0, "the disk is full"), y))
    with pytest.raises(tf.errors.InvalidArgumentError, match="the disk is full"):
        compiled(strategy).fit(bad, verbose=0)


@pytest.mark.parametrize("pause", [0.0, 0.5], ids=["while waiting", "while handing out"])
def test_a_worker_without_any_batch_is_an_error_with_the_cure(
    strategy: Strategy, pause: float
) -> None:
    def files(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors((X, Y)).skip(context.input_pipeline_id)

    slow = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: time.sleep(pause)
    )
    with pytest.raises(tf.errors.OutOfRangeError) as raised:
        compiled(strategy).fit(files, steps_per_epoch=50, verbose=0, callbacks=[slow])
    assert "`x` produced no batch for this worker" in raised.value.__notes__[0]


def stream(strategy: Strategy, x: Any, worker: int, count: int = 6, **arguments: Any) -> Any:
    adapter = ReplicaEpochIterator(strategy, x, **arguments).data_adapter
    return list(worker_stream(adapter, 2, 0)(worker).take(count))


def test_workers_share_the_batches_of_a_dataset(strategy: Strategy) -> None:
    dataset = tf.data.Dataset.range(5)
    assert [[int(b) for b in stream(strategy, dataset, worker)] for worker in (0, 1)] == [
        [0, 2, 4, 1, 3, 0],
        [1, 3, 0, 2, 4, 1],
    ]


def test_each_worker_reads_a_pipeline_in_a_different_order(strategy: Strategy) -> None:
    made = tfscale.data.input_pipeline(
        np.arange(20), strategy, global_batch_size=4, drop_remainder=True
    )
    adapter = GlobalBatchesAdapter(made, None)
    orders = []
    for worker, epoch in ((0, 0), (1, EPOCHS_APART)):
        read = np.concatenate(
            [b.data.numpy() for b in worker_stream(adapter, 2, 0)(worker).take(5)]
        )
        assert sorted(read) == list(range(20))
        single = np.concatenate([b.numpy() for b in made.at(epoch).local(0).take(5)])
        np.testing.assert_array_equal(read, single)
        orders.append(read.tolist())
    assert orders[0] != orders[1]


def test_a_function_makes_the_dataset_of_its_worker(strategy: Strategy) -> None:
    contexts: list[Any] = []

    def examples(context: tf.distribute.InputContext) -> tf.data.Dataset:
        contexts.append((context.input_pipeline_id, context.num_input_pipelines))
        return tf.data.Dataset.from_tensors((X, Y))

    model = compiled(strategy)
    model.fit(examples, steps_per_epoch=7, verbose=0)
    assert {(0, 2), (1, 2)} == set(contexts)
    assert int(model.optimizer.iterations.numpy()) == 7


def unbatched(_: tf.distribute.InputContext) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors((X, Y))


def generated() -> Any:
    while True:
        yield X, Y


REFUSED: list[tuple[str, Callable[[Strategy], Any], str]] = [
    (
        "a function without steps",
        lambda strategy: compiled(strategy).fit(unbatched, verbose=0),
        "`steps_per_epoch` must be set under parameter servers.*steps of all workers",
    ),
    (
        "no step at all",
        lambda strategy: compiled(strategy).fit(X, Y, steps_per_epoch=0, verbose=0),
        "`steps_per_epoch` must be a positive integer.*Received: steps_per_epoch=0",
    ),
    (
        "a part of a step",
        lambda strategy: compiled(strategy).fit(X, Y, steps_per_epoch=2.5, verbose=0),
        "`steps_per_epoch` must be a positive integer.*Received: steps_per_epoch=2.5",
    ),
    (
        "no example",
        lambda strategy: compiled(strategy).fit(X[:0], Y[:0], verbose=0),
        "`x` must have at least one batch",
    ),
    (
        "a generator",
        lambda strategy: compiled(strategy).fit(generated(), steps_per_epoch=2, verbose=0),
        "`x` must be input that workers in other processes can read.*GeneratorDataAdapter",
    ),
    (
        "a dataset that calls Python",
        lambda strategy: compiled(strategy).fit(
            tf.data.Dataset.from_generator(
                generated,
                output_signature=(tf.TensorSpec([20, 2]), tf.TensorSpec([20, 1])),
            ),
            steps_per_epoch=2,
            verbose=0,
        ),
        "`x` must be input that workers in other processes can read.*calls Python",
    ),
    (
        "eager steps",
        lambda strategy: compiled(strategy, run_eagerly=True).fit(X, Y, verbose=0),
        "`run_eagerly` must not be set under parameter servers",
    ),
    (
        "XLA",
        lambda strategy: compiled(strategy, jit_compile=True).fit(X, Y, verbose=0),
        "`jit_compile` must not be set under parameter servers",
    ),
    (
        "targets beside a function",
        lambda strategy: compiled(strategy).fit(unbatched, Y, steps_per_epoch=1, verbose=0),
        "`y` must be None if `x` is a function",
    ),
]


@pytest.mark.parametrize(
    ("refused", "message"), [pytest.param(*rest, id=name) for name, *rest in REFUSED]
)
def test_unsupported_input_is_refused_with_the_cure(
    strategy: Strategy, refused: Callable[[Strategy], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        refused(strategy)


def test_a_model_made_outside_the_scope_is_refused(strategy: Strategy) -> None:
    with strategy.scope():
        outer = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    outer.compile(keras.optimizers.SGD(), "mse")
    outer.optimizer.build(outer.trainable_variables)
    with pytest.raises(
        ValueError, match=f"`optimizer` '{outer.optimizer.name}' must be made inside"
    ):
        outer.fit(X, Y, verbose=0)


def test_training_continues_after_an_epoch_that_a_callback_ends(strategy: Strategy) -> None:
    model = compiled(strategy)

    def stop(batch: int, logs: Any) -> None:
        model.stop_training = batch == 9

    note = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    model.fit(X, Y, batch_size=4, steps_per_epoch=50, epochs=3, callbacks=[note], verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 10
    assert executions_of(strategy).take_staleness().steps == 0


def test_staleness_is_reported_before_all_other_callbacks_are_called(
    strategy: Strategy, tmp_path: Path
) -> None:
    recorder = callbacks_called(strategy, tmp_path)
    assert recorder.called == ["StalenessReport", *OF_USER, "Checkpoint"]
    assert recorder.shown == recorder.called
