"""The function seam: the train, test and predict functions, owned.

They call the user's own `train_step`, `test_step` and `predict_step` on every replica, inside a
`StepContext`, and own what surrounds it: input, several steps in one execution, and logs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer

from strategies.chief import is_chief
from strategies.half_outputs import warn_of_half_outputs
from strategies.keras_support.asynchronous_function import asynchronous_or
from strategies.keras_support.batch_norm_seam import moving_statistics
from strategies.keras_support.empty_share import cut_off
from strategies.keras_support.epoch_iterator_seam import DistributedBatch, Steps
from strategies.keras_support.gathering import gathered
from strategies.keras_support.logs import Path, flat_logs, mean_over_examples, merged_logs
from strategies.keras_support.metric_state import metric_names, metric_results
from strategies.keras_support.ownership import is_multi_worker, is_owned
from strategies.keras_support.refusals import refuse_impossible, refuse_parts_of_ours
from strategies.keras_support.replica_step import (
    distribute_batch,
    graph_function,
    none_written,
    on_replica_function,
    without_static_rows,
)
from strategies.keras_support.seam import Seam
from strategies.keras_support.share_stream import next_shares
from strategies.keras_support.step_clock import clock_of
from strategies.progress import phase

LOG_STEPS = 16
"""With several workers, metrics meet in a collective every so many executions, not at each."""

Logs = dict[str, Any]
Extra = dict[Path, Any]


def step_function(
    model: Any, step: Callable[[Any], Logs], statistics: Callable[[Any], list[Any]]
) -> Callable[[Any], Logs]:
    """Returns what Keras's loops call once an execution: batches in, logs out.

    Args:
        model: A compiled Keras model under one of our strategies.
        step: `model.train_step` or `model.test_step`.
        statistics: Names the variables of `model` that `step` writes replica by replica.
    """
    strategy = model.distribute_strategy
    refuse_impossible(model)
    is_shared = is_multi_worker(strategy)
    on_replica = on_replica_function(model, step, statistics=statistics)
    clock = clock_of(model)

    reported: list[tuple[str, ...]] = []

    def run(batch: Any, on_replica: Callable[[Any], Any] = on_replica) -> Extra:
        """Takes one step on all replicas; returns what only the step itself can tell."""
        outputs, examples = strategy.run(on_replica, args=(batch,))
        flat = flat_logs(outputs)
        reported[:] = flat
        known = metric_names(model)
        if not _is_standard(step):
            known -= {"loss"}  # perhaps the step's own, which no metric has seen
        extra = {path: value for path, value in flat.items() if path[-1] not in known}
        if not extra or clock is None:
            return mean_over_examples(strategy, extra, examples)
        return clock.around_collective(
            lambda: mean_over_examples(strategy, extra, examples), after=(extra, examples)
        )

    def with_metrics(extra: Extra) -> Any:
        return extra if is_shared else merge(metric_results(model), extra)

    def merge(metrics: Logs, extra: Extra) -> Logs:
        return merged_logs(reported, metrics, extra)

    def run_batch(batch: Any) -> Any:
        # An argument's shape is static, a stream's is not; Keras weighs an output's loss by it.
        return with_metrics(run(batch, lambda data: on_replica(without_static_rows(data))))

    def run_one(stream: Any) -> Any:
        return with_metrics(run(next_shares(strategy, stream, clock)))

    def run_many(stream: Any, count: tf.Tensor) -> Any:
        def run_next() -> Extra:
            return run(next_shares(strategy, stream, clock))

        return with_metrics(_loop(run_next, count, yields_extra=not _is_standard(step)))

    read_metrics: Callable[[], Logs] = functools.partial(metric_results, model)
    if not model.run_eagerly:
        run_batch = graph_function(run_batch)
        run_one = graph_function(run_one)
        run_many = graph_function(run_many)
        read_metrics = graph_function(read_metrics)
    executions = 0
    metrics: Logs = {}

    def function(iterator: Any) -> Logs:
        nonlocal executions, metrics
        logs: Any = None
        if not isinstance(iterator, Steps) or iterator.count is None:
            logs = _run_each(strategy, run_batch, iterator, model.steps_per_execution)
        elif model.run_eagerly:
            for _ in range(iterator.count):
                logs = run_one(iterator.stream)
        elif iterator.count == 1:
            logs = run_one(iterator.stream)
        elif iterator.is_end and strategy.num_replicas_in_sync > 1:
            # A collective keeps its shape within a call, and the rows of an embedding's gradient
            # are gathered: the last batch, which may be smaller, has a call of its own.
            run_many(iterator.stream, tf.constant(iterator.count - 1))
            logs = run_one(iterator.stream)
        else:
            logs = run_many(iterator.stream, tf.constant(iterator.count))
        if not is_shared:
            return dict(logs)
        is_edge = not isinstance(iterator, Steps) or iterator.is_edge
        if is_edge or executions % LOG_STEPS == 0:
            with phase("collective"):
                metrics = read_metrics()
        executions += 1
        return merge(metrics, logs)

    return function


def predict_function(model: Any) -> Callable[[list[Any]], Any]:
    """Returns what `predict` calls: a list of distributed batches in, their rows in order out."""
    strategy = model.distribute_strategy
    refuse_impossible(model)
    on_replica = on_replica_function(model, model.predict_step, statistics=none_written)

    def on_own_rows(batch: Any) -> Any:
        outputs, examples = on_replica(batch)
        return outputs if strategy.num_replicas_in_sync == 1 else cut_off(outputs, examples)

    def run_one(batch: Any) -> Any:
        outputs = strategy.run(on_own_rows, args=(batch,))
        if is_multi_worker(strategy):
            # Shares are contiguous in the order of the replicas, and so is what is gathered.
            return tf.nest.map_structure(lambda rows: gathered(strategy, rows), outputs)
        return keras_trainer.reduce_per_replica(outputs, strategy, reduction="concat")

    def run(batches: list[Any]) -> Any:
        outputs = [run_one(batch) for batch in batches]
        return tf.nest.map_structure(lambda *rows: keras_trainer.concat(rows), *outputs)

    predict = run if model.run_eagerly else graph_function(run)

    def function(batches: list[Any]) -> Any:
        return predict([_shares(strategy, batch) for batch in batches])

    return function


def _is_standard(step: Callable[[Any], Logs]) -> bool:
    """Tells whether `step` is Keras's own, which reports the model's metrics and nothing else."""
    own = (keras_trainer.TensorFlowTrainer.train_step, keras_trainer.TensorFlowTrainer.test_step)
    return getattr(step, "__func__", None) in own


def _loop(run_next: Callable[[], Extra], count: tf.Tensor, yields_extra: bool) -> Extra:
    """Runs `count` steps, at least one, inside the graph; returns the last one's extra logs."""
    done, last = tf.constant(0), {}
    if yields_extra:  # a loop's variables need a value to start from: the first step's
        done, last = tf.constant(1), run_next()

    def body(done: tf.Tensor, _: Extra) -> tuple[tf.Tensor, Extra]:
        return done + 1, run_next()

    _, last = tf.while_loop(lambda done, _: done < count, body, (done, last), parallel_iterations=1)
    return dict(last)


def _run_each(
    strategy: tf.distribute.Strategy, run_batch: Callable[[Any], Any], stream: Any, limit: int
) -> Any:
    """Runs up to `limit` batches of a stream that may end, or of whole batches from Python."""
    logs: Any = None
    for _, batch in zip(range(limit), stream, strict=False):
        logs = run_batch(_shares(strategy, batch))
    if logs is None:
        raise StopIteration
    return logs


def _shares(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    if isinstance(batch, DistributedBatch):
        return batch.shares
    return distribute_batch(strategy, batch)


def _owned(
    attribute: str,
    build: Callable[[Any], Any],
    check_others: Callable[[Any], None] | None = None,
) -> Callable[[Any], Any]:
    """Returns the wrapper of a `make_..._function` that keeps what it made in `attribute`.

    Models that are not ours go to Keras's own, after `check_others`.
    """

    def wrap(make_function: Any) -> Any:
        @functools.wraps(make_function)
        def make(self: Any, force: bool = False) -> Any:
            if not is_owned(self.distribute_strategy):
                if check_others is not None:
                    check_others(self)
                return make_function(self, force=force)
            if getattr(self, attribute) is None or force:
                setattr(self, attribute, build(self))
            return getattr(self, attribute)

        return make

    return wrap


def _train_function(model: Any) -> Callable[[Any], Logs]:
    if is_chief(model.distribute_strategy):
        warn_of_half_outputs(model)
    in_step = functools.partial(step_function, model, model.train_step, moving_statistics)
    function = asynchronous_or(in_step, model)

    def train(iterator: Any) -> Logs:
        with phase("step"):
            return function(iterator)

    return train


_train = _owned("train_function", _train_function, refuse_parts_of_ours)
_test = _owned("test_function", lambda model: step_function(model, model.test_step, none_written))
_predict = _owned("predict_function", predict_function)

_TRAINER = "keras.src.backend.tensorflow.trainer:TensorFlowTrainer"
TRAIN = Seam(f"{_TRAINER}.make_train_function", frozenset({"e37a0521985e"}), _train)
TEST = Seam(f"{_TRAINER}.make_test_function", frozenset({"e2dacd0f1f49"}), _test)
PREDICT = Seam(f"{_TRAINER}.make_predict_function", frozenset({"a54b452442b3"}), _predict)
