"""Trains one configuration and collects all of its results."""

from __future__ import annotations

import contextlib
import gc
import types
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.parity.compiling import build_losses, build_optimizer
from tests.parity.configuration import Configuration
from tests.parity.examples import Examples, make_examples, permuted_in_batches
from tests.parity.feeds import feed, reference_feed, rows_feed, validation_feed
from tests.parity.kinds import kind_of
from tests.parity.microbatches import microbatch_step
from tests.parity.parallel import make_parallel, whole_of
from tests.parity.zoo import build_model
from tests.stock_keras import SINCE_3_16, batches_counted_once

Findings = dict[str, np.ndarray]
"""All results of a run, by name: `weights/3`, `history/loss`, `predict/0`, ..."""


@dataclass(frozen=True)
class Run:
    """How a configuration is trained.

    Attributes:
        strategy: Strategy to train under, or None for stock Keras on one device.
        is_permuted: Whether the rows of each global batch (in half precision, of each replica
            batch) are permuted: the same mathematics with other rounding.
        is_ours: Whether the strategy is of `strategies`, with fixes, pipelines, shared tensors.
    """

    strategy: tf.distribute.Strategy | None
    is_permuted: bool = False
    is_ours: bool = False


def train(configuration: Configuration, run: Run) -> Findings:
    """Fits, evaluates and predicts; see `_train`."""
    with batches_counted_once() if run.strategy is None else contextlib.nullcontext():
        return _train(configuration, run)


def _train(configuration: Configuration, run: Run) -> Findings:
    """Fits, evaluates and predicts.

    The reference, whose `run` has no strategy, takes one step per execution, on data of known
    length: neither may change the results. It runs eagerly if the other run does, because Keras
    then computes schedules in float32, a difference of 1e-8.
    """
    keras.backend.clear_session()
    gc.collect()
    keras.config.set_floatx("float64" if configuration.precision == "float64" else "float32")
    keras.config.set_dtype_policy(configuration.precision)
    keras.utils.set_random_seed(configuration.seed + 1)
    strategy = run.strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = build_model(configuration)
        model.compile(
            build_optimizer(configuration),
            steps_per_execution=configuration.steps_per_execution if run.strategy else 1,
            run_eagerly=configuration.run_eagerly or _races(configuration, run),
            **build_losses(configuration),
        )
        if run.is_ours:
            make_parallel(model, configuration)
        if configuration.optimizer == "schedule_free_adamw":
            model.optimizer.build(model.trainable_variables)
    if run.strategy is None and configuration.is_half:
        step = microbatch_step(configuration.num_replicas)
        model.train_step = types.MethodType(step, model)

    logs = _BatchLogs(configuration)
    history = model.fit(
        **_training_data(configuration, run, strategy),
        **validation_feed(configuration, _examples(configuration, "validation"), run.is_ours),
        class_weight=_CLASS_WEIGHTS if configuration.weights == "class" else None,
        callbacks=[*_microbatches(configuration, run), logs],
        verbose=0,
    )
    test = _examples(configuration, "test")
    evaluated, predicted = {}, []
    if kind_of(configuration.model).can_evaluate:
        arguments = rows_feed(configuration, test, "test", run.is_ours)
        evaluated = model.evaluate(**arguments, return_dict=True, verbose=0)
    if kind_of(configuration.model).has_call:
        predicted = model.predict(**rows_feed(configuration, test, "x", run.is_ours), verbose=0)
    return {
        **state_of(whole_of(model, configuration) if run.is_ours else model),
        **{f"history/{name}": np.array(values) for name, values in history.history.items()},
        **{f"evaluate/{name}": np.array(v) for name, v in evaluated.items()},
        **{f"predict/{i}": np.array(p) for i, p in enumerate(tf.nest.flatten(predicted))},
        **{f"batch_logs/{name}": np.array(v) for name, v in logs.values.items()},
        "batch_logs_steps": np.array(logs.steps),
    }


def _microbatches(configuration: Configuration, run: Run) -> list[keras.callbacks.Callback]:
    if configuration.microbatches == 1 or configuration.runs or not run.is_ours:
        return []
    import tfscale  # not in the process of the reference

    return [tfscale.callbacks.Microbatches(configuration.microbatches)]


def _races(configuration: Configuration, run: Run) -> bool:
    """Tells whether this Keras on one device may not give the same results twice.

    Not with a schedule, which an eager run computes in float32.
    """
    updates_twice = configuration.model in ("adversaries", "wasserstein")
    return (
        run.strategy is None
        and SINCE_3_16
        and updates_twice
        and configuration.schedule == "constant"
    )


def state_of(model: keras.Model) -> Findings:
    """Returns all weights of a model and all variables of its optimizers."""
    found = {f"weights/{i}": np.array(v.numpy()) for i, v in enumerate(model.weights)}
    other = getattr(model, "other", None)  # a second optimizer's name in the zoo
    slots = [*model.optimizer.variables, *(other.variables if other else ())]
    found |= {f"optimizer/{i}": np.array(v.numpy()) for i, v in enumerate(slots)}
    found["iterations"] = np.array(model.optimizer.iterations.numpy())
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    found["inner_iterations"] = np.array(inner.iterations.numpy())
    return found


_CLASS_WEIGHTS = {0: 0.5, 1: 1.0, 2: 2.5}


def _examples(configuration: Configuration, part: str) -> Examples:
    # A batch of one row at the end; and one that is not full.
    rows = {
        "train": configuration.rows,
        "validation": configuration.batch + max(1, configuration.batch // 3),
        "test": 2 * configuration.batch + 1,
    }[part]
    return make_examples(configuration, rows, part)


def _training_data(
    configuration: Configuration, run: Run, strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    examples = _examples(configuration, "train")
    if run.is_permuted:
        parts = configuration.num_replicas if configuration.is_half else 1
        order = permuted_in_batches(
            configuration.rows, configuration.batch, parts, np.random.default_rng(1)
        )
        examples = examples.take(order)
    is_pipeline = configuration.data == "pipeline"
    if run.strategy is None or (is_pipeline and not run.is_ours):
        return reference_feed(configuration, examples)
    return feed(configuration, examples, strategy, run.is_ours)


class _BatchLogs(keras.callbacks.Callback):
    """The logs that a callback gets after each execution, and the number of steps by then."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.values: dict[str, list[float]] = {}
        is_one_epoch = configuration.data == "generator"
        self._length = configuration.steps_per_epoch * (configuration.epochs if is_one_epoch else 1)
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # The last execution of an epoch may end before its last step.
        self.steps.append(self._epoch * self._length + min(batch, self._length - 1))
        for name, value in (logs or {}).items():
            self.values.setdefault(name, []).append(float(value))
