"""The train function of asynchronous training: the step of one worker, and the chief's logs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.keras_support.asynchronous.counters import metrics_that_add
from strategies.keras_support.asynchronous.epoch import WorkerExecution
from strategies.keras_support.asynchronous.executions import executions_of
from strategies.keras_support.context.step_context import Pull, current_step
from strategies.keras_support.gradients.gradient_watch import watches_under
from strategies.keras_support.metrics.logs import Path, flat_logs, merged_logs, named_in
from strategies.keras_support.metrics.metric_reduction import metric_paths, metric_results
from strategies.keras_support.model.checks import refuse_impossible
from strategies.keras_support.step.replica_step import (
    graph_function,
    none_written,
    on_replica_function,
)

LOG_SECONDS = 0.5
"""Time between two reads of the metrics on the servers, for the logs of batches."""

Logs = dict[str, Any]


def asynchronous_train_function(
    model: Any, make_synchronous: Callable[[], Callable[[Any], Logs]]
) -> Callable[[Any], Logs]:
    """Returns the function that `fit` calls once per execution, under parameter servers.

    It hands the execution to a worker and returns the latest logs, which lack the running
    executions. The logs at the end of an epoch are complete.

    Args:
        model: A compiled model under a parameter server strategy of this package.
        make_synchronous: Makes the function for batches in the chief's memory, as in
        `train_on_batch`.
    """
    strategy = model.distribute_strategy
    refuse_impossible(model)
    refuse_out_of_step(model)
    executions = executions_of(strategy)
    reported: list[Path] = []
    read_metrics: Callable[[], Logs] = graph_function(functools.partial(metric_results, model))
    take_steps = _execution(model, reported)
    concrete: dict[Any, Any] = {}
    chief: list[Callable[[Any], Logs]] = []
    metrics: Logs = {}
    read_at, streams = -LOG_SECONDS, None

    def function(iterator: Any) -> Logs:
        nonlocal metrics, read_at, streams
        if not isinstance(iterator, WorkerExecution):
            chief[:] = chief or [make_synchronous()]
            return chief[0](iterator)
        if iterator.streams is not streams:
            streams = iterator.streams
            executions.forget_extra()  # of another fit, perhaps of another model
        many = iterator.count > 1
        key = (many, iterator.spec)
        if key not in concrete:
            # Here, and not in a worker's thread: Keras's state is thread-local.
            count = tf.TensorSpec([], tf.int32)
            concrete[key] = take_steps[many].get_concrete_function(iterator.spec, count)

        def execute(stream: Any, count: int) -> Any:
            steps, total, largest, extra = concrete[key](stream, tf.constant(count))
            logs = tf.nest.map_structure(lambda part: part.numpy(), extra)
            return int(steps), int(total), int(largest), logs

        executions.begin(execute, (iterator.streams, iterator.count))
        if iterator.is_end:
            executions.wait_until_idle()
        else:
            executions.wait_for_first()
        if iterator.is_end or time.monotonic() - read_at >= LOG_SECONDS:
            metrics, read_at = read_metrics(), time.monotonic()
        return merged_logs(reported, metrics, executions.extra or {})

    return function


def _execution(model: Any, reported: list[Path]) -> dict[bool, Any]:
    """Returns the graph functions of one step and of many; both take a worker's stream."""
    strategy = model.distribute_strategy

    def step(data: Any) -> Any:
        refuse_watches(strategy)  # which callbacks set when training begins
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        pull = Pull(tf.cast(worker, tf.int32), getattr(model, "optimizer", None))
        context = current_step()
        assert context is not None
        context.pull = pull
        # The version is read before any weight.
        with tf.control_dependencies([pull.version]), metrics_that_add(model):
            logs = model.train_step(data)
        return logs, pull.staleness

    on_replica = on_replica_function(model, step, statistics=none_written)

    def take(stream: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, Any]:
        (logs, staleness), _ = strategy.run(on_replica, args=(next(stream),))
        flat = flat_logs(logs)
        reported[:] = flat
        known = metric_paths(model) - {("loss",)}
        extra = {path: value for path, value in flat.items() if named_in(path, known) is None}
        measured = tf.maximum(staleness, 0)
        return tf.cast(staleness >= 0, tf.int64), measured, measured, extra

    def one(stream: Any, count: tf.Tensor) -> Any:
        return take(stream)

    def many(stream: Any, count: tf.Tensor) -> Any:
        def body(done: tf.Tensor, so_far: Any) -> Any:
            (steps, total, largest, _), (more, missed, most, extra) = so_far, take(stream)
            so_far = (steps + more, total + missed, tf.maximum(largest, most), extra)
            return done + 1, so_far

        first = (tf.constant(1), take(stream))
        return tf.while_loop(lambda done, _: done < count, body, first, parallel_iterations=1)[1]

    return {False: graph_function(one), True: graph_function(many)}


def refuse_out_of_step(model: Any) -> None:
    """Checks a model before it trains asynchronously.

    Args:
        model: A Keras model about to `fit` under a parameter server strategy.

    Raises:
        ValueError: If it needs Python, XLA or steps in order.
    """
    optimizer = getattr(model, "optimizer", None)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    asked = {
        "run_eagerly": (model.run_eagerly, "workers run graphs, not Python. Omit it"),
        "jit_compile": (
            model.jit_compile,
            "XLA cannot compile reads of variables in other processes. Use 'auto' or False",
        ),
        "gradient_accumulation_steps": (
            getattr(inner, "gradient_accumulation_steps", None),
            "all workers would add to the same sum and reset it for each other. Use larger batches",
        ),
    }
    for name, (value, why) in asked.items():
        if value:
            raise ValueError(
                f"`{name}` must not be set under parameter servers. Received: {name}={value!r}: "
                f"{why}."
            )


def refuse_watches(strategy: tf.distribute.Strategy) -> None:
    """Checks that no callback judges the steps of asynchronous training.

    Raises:
        ValueError: If one does.
    """
    if watches_under(strategy):
        raise ValueError(
            "`callbacks` must not check the gradients of each step under parameter servers, "
            "because steps overlap. Received: a callback that watches gradients. Omit it, or stop "
            "at a non-finite loss with keras.callbacks.TerminateOnNaN."
        )
