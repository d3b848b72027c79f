"""The functions that Keras's loops call: for one batch, for one execution, and for predictions.

It calls the user's own `train_step`, `test_step` or `predict_step` on every replica, inside a
`StepContext`, and handles input, several steps in one execution, logs, and the order of rows.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer

from strategies.global_batches import PaddedReplicaBatch
from strategies.keras_support.input.execution_size import reason_in_graph
from strategies.keras_support.input.replica_stream import (
    Execution,
    content_of,
    next_replica_batches,
    replica_batches_of,
)
from strategies.keras_support.metrics.logs import (
    Path,
    flat_logs,
    mean_over_examples,
    merged_logs,
    named_in,
)
from strategies.keras_support.metrics.metric_combination import adopt_metrics
from strategies.keras_support.metrics.metric_reduction import (
    all_results,
    loss_tracker,
    metric_paths,
)
from strategies.keras_support.metrics.step_results import StepResults
from strategies.keras_support.model.checks import refuse_impossible
from strategies.keras_support.model.replica_values import gathered
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.patching.step_clock import clock_of, mark_phases
from strategies.keras_support.sharding.stages import refuse_compiled
from strategies.keras_support.step.microbatches import is_standard
from strategies.keras_support.step.replica_step import (
    built_first,
    cut_off,
    graph_function,
    none_written,
    on_replica_function,
    without_static_rows,
)
from strategies.progress import phase

LOG_STEPS = 16
"""With several workers, metrics are reduced every this many executions, not after each."""

Logs = dict[str, Any]
Extra = dict[Path, Any]


def step_function(
    model: Any, step: Callable[[Any], Logs], statistics: Callable[[Any], list[Any]]
) -> Callable[[Any], Logs]:
    """Returns the function that Keras's loops call once per execution: batches in, logs out.

    Args:
        model: A compiled Keras model under a strategy of this package.
        step: `model.train_step` or `model.test_step`.
        statistics: Names the variables of `model` that `step` writes replica by replica.
    """
    strategy = model.distribute_strategy
    adopt_metrics(model)
    refuse_impossible(model)
    refuse_compiled(model)
    is_shared = is_multi_worker(strategy)
    results = StepResults(model)
    on_replica = on_replica_function(model, results.noted(step), statistics=statistics)
    clock = mark_phases(model) if is_shared else clock_of(model)

    reported: list[tuple[str, ...]] = []

    def run(batch: Any, on_replica: Callable[[Any], Any] = on_replica) -> Extra:
        """Takes one step on all replicas; returns the logs that are not results of metrics."""
        with contextlib.nullcontext() if is_standard(step) else results.following():
            outputs, examples = strategy.run(on_replica, args=(batch,))
        flat = flat_logs(outputs)
        reported[:] = flat
        known = metric_paths(model)
        if not is_standard(step) and loss_tracker(model) is not None:
            known -= {("loss",)}  # perhaps the step's own, which no metric has seen
        extra = {
            path: value
            for path, value in flat.items()
            if path not in results and named_in(path, known) is None
        }
        if not extra or clock is None:
            return mean_over_examples(strategy, extra, examples)
        return clock.around_collective(
            lambda: mean_over_examples(strategy, extra, examples), after=(extra, examples)
        )

    def with_metrics(extra: Extra) -> Any:
        return extra if is_shared else merge(all_results(model, results), extra)

    def merge(metrics: tuple[Logs, Extra], extra: Extra) -> Logs:
        return merged_logs(reported, metrics[0], extra, metrics[1])

    def run_batch(batch: Any) -> Any:
        # An argument has a static shape, a stream does not; Keras weights an output's loss by it.
        given = replica_batches_of(strategy, batch)
        return with_metrics(run(given, lambda data: on_replica(without_static_rows(data))))

    def run_next(stream: Any) -> Extra:
        return run(next_replica_batches(strategy, stream, clock))

    # Traced once, however many steps an execution takes.
    traced_next: Any = run_next if model.run_eagerly else graph_function(run_next)

    def run_one(stream: Any) -> Any:
        return with_metrics(traced_next(stream))

    def run_many(stream: Any, count: tf.Tensor) -> Any:
        return with_metrics(
            _loop(lambda: traced_next(stream), count, yields_extra=not is_standard(step))
        )

    def build_one(stream: Any, *_: tf.Tensor) -> Any:
        return with_metrics(run_next(stream))

    read_metrics: Callable[[], Any] = functools.partial(all_results, model, results)
    run_batch = built_first(model, run_batch)
    run_one = built_first(model, run_one, build_one)
    run_many = built_first(model, run_many, build_one)
    if not model.run_eagerly:
        read_metrics = graph_function(read_metrics)
    single_reason: str | None = None

    def single_steps(stream: Any) -> str:
        nonlocal single_reason
        if single_reason is None:
            single_reason = reason_in_graph(traced_next.get_concrete_function(stream).graph)
        return single_reason

    executions = 0
    metrics: tuple[Logs, Extra] = ({}, {})

    def function(iterator: Any) -> Logs:
        nonlocal executions, metrics
        logs: Any = None
        if not isinstance(iterator, Execution) or iterator.count is None:
            logs = _run_each(strategy, run_batch, iterator, model.steps_per_execution)
        elif model.run_eagerly:
            for _ in range(iterator.count):
                logs = run_one(iterator.stream)
        elif iterator.count == 1:
            logs = run_one(iterator.stream)
        elif iterator.size is not None and (reason := single_steps(iterator.stream)):
            iterator.size.keep(1, reason)
            for _ in range(iterator.count):
                logs = run_one(iterator.stream)
        elif iterator.is_end and strategy.num_replicas_in_sync > 1:
            # A collective keeps its shape within a call, and the rows of an embedding's gradient
            # are gathered: the last batch, which may be smaller, gets its own call.
            with _explaining_uneven_rows(iterator.count):
                run_many(iterator.stream, tf.constant(iterator.count - 1))
            logs = run_one(iterator.stream)
        else:
            with _explaining_uneven_rows(iterator.count):
                logs = run_many(iterator.stream, tf.constant(iterator.count))
        if not is_shared:
            return dict(logs)
        is_edge = not isinstance(iterator, Execution) or iterator.is_edge
        if is_edge or executions % LOG_STEPS == 0:
            with phase("collective"):
                metrics = read_metrics()
        executions += 1
        return merge(metrics, logs)

    return function


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
        logs = run_batch(content_of(strategy, batch))
    if logs is None:
        raise StopIteration
    return logs


@contextlib.contextmanager
def _explaining_uneven_rows(count: int) -> Iterator[None]:
    """Explains TensorFlow's error if the number of gathered rows changed within one call."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if "CollectiveGather" not in str(error) or "Shape mismatch" not in str(error):
            raise
        raise ValueError(
            "`steps_per_execution` must be 1 if batches differ in size within an epoch and an "
            "Embedding is trained on this many tokens, because TensorFlow cannot gather more than "
            "262,143 rows of a gradient if their number changes within an execution. Received: an "
            f"execution of {count} steps, in which batches differ. Call repeat() before batch(), "
            "or batch with drop_remainder=True. The collectives of this process are broken: "
            "restart it."
        ) from error


def predict_function(model: Any, step: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    """Returns the function that `predict` calls: distributed batches in, rows in order out.

    Args:
        model: A Keras model under a strategy of this package.
        step: `model.predict_step`, or what stands in for it.
    """
    strategy = model.distribute_strategy
    refuse_impossible(model)
    on_replica = on_replica_function(model, step, statistics=none_written)

    def on_own_rows(batch: Any) -> Any:
        outputs, examples = on_replica(batch)
        is_padded = strategy.num_replicas_in_sync > 1 or isinstance(batch, PaddedReplicaBatch)
        return cut_off(outputs, examples) if is_padded else outputs

    def run_one(batch: Any) -> Any:
        outputs = strategy.run(on_own_rows, args=(replica_batches_of(strategy, batch),))
        if is_multi_worker(strategy):
            # Replica batches are contiguous, in the order of the replicas; so are gathered rows.
            return tf.nest.map_structure(lambda rows: gathered(strategy, rows), outputs)
        return keras_trainer.reduce_per_replica(outputs, strategy, reduction="concat")

    def run(batches: list[Any]) -> Any:
        outputs = [run_one(batch) for batch in batches]
        return tf.nest.map_structure(lambda *rows: keras_trainer.concat(rows), *outputs)

    predict = built_first(model, run)

    def function(batches: list[Any]) -> Any:
        return predict([content_of(strategy, batch) for batch in batches])

    return function
