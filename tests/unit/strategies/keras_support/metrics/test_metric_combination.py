"""Custom metrics: their state is combined so that results match one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import strategies
import tfscale
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
    found,
)

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    """Three replicas: of 22 examples in batches of 7 they have 3, 2, 2 and at last 1, 0, 0."""
    return strategies.mirrored_strategy(3)


def errors(y: Any, p: Any) -> Any:
    return ops.sum(ops.abs(y - p), axis=1)


class Own(keras.metrics.Metric):
    """A metric of one variable, `v`."""

    update: Callable[..., Any]
    start = 0.0
    shape: tuple[int, ...] = ()
    aggregation = "sum"
    how: str | None = None

    def __init__(self, name: str = "own") -> None:
        super().__init__(name=name)
        self.v = self.add_variable(
            self.shape,
            keras.initializers.Constant(self.start),
            aggregation=self.aggregation,
            name="v",
        )
        if self.how is not None:
            tfscale.metrics.combined_by(self.v, self.how)

    def reset_state(self) -> None:
        self.v.assign(ops.full(self.shape, self.start, "float64"))

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        self.v.assign(type(self).update(self.v, ops.cast(y, self.dtype), p))

    def result(self) -> Any:
        return ops.sum(self.v * (1.0 + ops.arange(ops.size(self.v), dtype="float64")))


def kind(name: str, update: Callable[..., Any], **attributes: Any) -> type[Own]:
    return type(name, (Own,), {"update": staticmethod(update), **attributes})


RIGHT = [
    kind("Sum", lambda v, y, p: v + ops.sum(errors(y, p))),
    kind("SumInTwoParts", lambda v, y, p: ops.sum(p) + (v - ops.sum(y)), start=3.0),
    kind("SumWhere", lambda v, y, p: ops.where(ops.max(y) > 0.3, v + ops.sum(errors(y, p)), v)),
    kind("PerColumn", lambda v, y, p: v + ops.sum(ops.abs(y - p), axis=0), shape=(2,)),
    kind("Maximum", lambda v, y, p: ops.maximum(v, ops.max(errors(y, p)))),
    kind("MaximumOfTwo", lambda v, y, p: ops.max(ops.stack([ops.max(errors(y, p)), v.value]))),
    kind("Minimum", lambda v, y, p: ops.minimum(ops.min(errors(y, p)), v), start=0.9),
    kind("Largest", lambda v, y, p: ops.where(ops.max(p) > v, ops.max(p), v), start=-5.0),
    kind("PerColumnMinimum", lambda v, y, p: ops.minimum(v, ops.min(p, axis=0)), shape=(2,)),
    kind("Constant", lambda v, y, p: 0.125),
    kind("MovingAverage", lambda v, y, p: 0.9 * v + 0.1 * ops.mean(y), aggregation="mean"),
    kind("LastMean", lambda v, y, p: ops.mean(errors(y, p)), how="mean"),
    kind("MaximumOfSquares", lambda v, y, p: ops.sqrt(ops.maximum(v * v, ops.max(p))), how="max"),
]
REFUSED = [
    kind("Last", lambda v, y, p: ops.mean(errors(y, p))),
    kind("Decayed", lambda v, y, p: 0.9 * v + ops.sum(y)),
    kind("Product", lambda v, y, p: v * ops.mean(y)),
]


def by_name(metric: type[Any]) -> str:
    return metric.__name__


def program_of(*kinds: type[Own], eagerly: bool = False) -> Callable[..., Found]:
    """Returns a program that trains, evaluates and reads metrics, each under its class's name."""

    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            metrics = [each("own" if len(kinds) == 1 else each.__name__) for each in kinds]
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
            model.compile(keras.optimizers.SGD(0.05), "mse", metrics=metrics, run_eagerly=eagerly)
        options = {"batch_size": 7, "verbose": 0}
        history = model.fit(
            X, Y, epochs=2, shuffle=False, validation_data=(X[:9], Y[:9]), **options
        )
        evaluated = model.evaluate(X, Y, **options)
        results = model.metrics[1].result().values()
        afterwards = np.array([ops.convert_to_tensor(each) for each in results])
        return found(model, history, evaluated=evaluated, afterwards=afterwards)

    return program


IN_EAGER_STEPS = [
    each for each in RIGHT if each.__name__ in ("Sum", "Maximum", "Largest", "MovingAverage")
]


def test_combinations_seen_in_updates_or_declared_match_one_device(
    strategy: tf.distribute.Strategy,
) -> None:
    assert_like_one_device(program_of(*RIGHT), strategy)


@pytest.mark.thorough
@pytest.mark.parametrize("metric", RIGHT, ids=by_name)
def test_a_combination_alone_matches_one_device(
    strategy: tf.distribute.Strategy, metric: type[Own]
) -> None:
    assert_like_one_device(program_of(metric), strategy)


def test_updates_that_run_eagerly_match_one_device(strategy: tf.distribute.Strategy) -> None:
    assert_like_one_device(program_of(*IN_EAGER_STEPS, eagerly=True), strategy)


@pytest.mark.thorough
@pytest.mark.parametrize("metric", IN_EAGER_STEPS, ids=by_name)
def test_an_update_that_runs_eagerly_alone_matches_one_device(
    strategy: tf.distribute.Strategy, metric: type[Own]
) -> None:
    assert_like_one_device(program_of(metric, eagerly=True), strategy)


@pytest.mark.parametrize(
    ("metric", "eagerly"), [(REFUSED[0], True), *((metric, False) for metric in REFUSED)]
)
def test_any_other_update_is_refused_by_name(
    strategy: tf.distribute.Strategy, metric: type[Own], eagerly: bool
) -> None:
    with pytest.raises(ValueError, match=r"`own/v` must be a sum over the replicas.*combined_by"):
        program_of(metric, eagerly=eagerly)(strategy)


class Positives(keras.metrics.Metric):
    """The example of Keras's documentation, whose result is a variable."""

    def __init__(self, form: str) -> None:
        super().__init__(name="own")
        self.form = form
        self.positives = self.add_variable((), "zeros", name="positives")

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        rows = ops.cast(ops.shape(p)[0], self.dtype)
        self.positives.assign(self.positives + rows)

    def result(self) -> Any:
        forms: dict[str, Any] = {
            "variable": lambda: self.positives,
            "value": lambda: self.positives.value,
            "dict": lambda: {"a": self.positives, "b": self.positives.value},
            "dict of numbers": lambda: {"a": self.positives + 0.0, "b": 2 * self.positives},
        }
        return forms[self.form]()


@pytest.mark.parametrize("form", ["variable", "value", "dict", "dict of numbers"])
def test_a_result_that_is_a_variable_becomes_a_number(
    strategy: tf.distribute.Strategy, form: str
) -> None:
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.05), "mse", metrics=[Positives(form)])
    history = model.fit(X, Y, batch_size=7, epochs=2, verbose=0).history
    evaluated = model.evaluate(X[:5], Y[:5], batch_size=7, verbose=0, return_dict=True)
    names = {"dict": ("a", "b"), "dict of numbers": ("a", "b")}.get(form, ("own",))
    scale = {"dict of numbers": {"b": 2}}.get(form, {})
    for name in names:
        assert history[name] == [22.0 * scale.get(name, 1)] * 2
        assert all(type(value) is float for value in history[name])
        assert evaluated[name] == 5.0 * scale.get(name, 1)


class Doubled(keras.metrics.MeanAbsoluteError):
    """Only calls Keras's methods."""

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        super().update_state(2 * y, 2 * p)


def test_metrics_of_keras_are_not_changed(strategy: tf.distribute.Strategy) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            metrics = [
                Doubled(name="doubled"),
                keras.metrics.AUC(name="auc"),
                keras.metrics.R2Score(name="r2"),
                keras.metrics.RootMeanSquaredError(name="rmse"),
            ]
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "sigmoid")])
            model.compile(keras.optimizers.SGD(0.05), "mse", metrics=metrics)
        y = (Y > 0).astype("float64")
        return found(model, model.fit(X, y, batch_size=7, shuffle=False, verbose=0))

    assert_like_one_device(program, strategy)


def test_a_declaration_names_what_it_accepts() -> None:
    metric = keras.metrics.Mean()
    with pytest.raises(ValueError, match=r"`how` must be one of 'sum', .* Received: how='last'"):
        tfscale.metrics.combined_by(metric.total, "last")
    with pytest.raises(ValueError, match="`variable` must be made by a metric's add_variable"):
        tfscale.metrics.combined_by(keras.Variable(0.0), "max")


def tracked(strategy: tf.distribute.Strategy, is_listed: bool, batch_size: int) -> Found:
    """The book's custom step, with trackers at module level."""
    loss_tracker = keras.metrics.Mean(name="loss")
    error = keras.metrics.MeanAbsoluteError(name="mae")

    class Tracked(keras.Sequential):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                outputs = self(x, training=True)
                loss = tf.reduce_mean((outputs - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply(gradients, self.trainable_weights)
            loss_tracker.update_state(loss)
            error.update_state(y, outputs)
            return {"loss": loss_tracker.result(), "mae": error.result()}

        @property
        def metrics(self) -> list[Any]:
            return [loss_tracker, error] if is_listed else []

    with strategy.scope():
        model = Tracked([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.05))
    history = model.fit(X, Y, batch_size=batch_size, epochs=2, shuffle=False, verbose=0)
    return found(model, history, result=loss_tracker.result())


@pytest.mark.parametrize(
    "batch_size",
    [7, pytest.param(6, marks=pytest.mark.thorough)],  # 7: replicas have unequal numbers of rows
)
def test_trackers_made_outside_the_scope_are_right_if_the_model_lists_them(
    strategy: tf.distribute.Strategy, batch_size: int
) -> None:
    assert_like_one_device(lambda s: tracked(s, True, batch_size), strategy)


def test_other_trackers_made_outside_the_scope_are_refused_by_name(
    strategy: tf.distribute.Strategy,
) -> None:
    with pytest.raises(ValueError, match=r"`loss/total` must be made inside `strategy.scope\(\)`"):
        tracked(strategy, False, 7)


def test_a_metric_object_made_outside_the_scope_is_right(
    strategy: tf.distribute.Strategy,
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        metric = keras.metrics.MeanAbsoluteError(name="mae")
        with strategy.scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
            model.compile(keras.optimizers.SGD(0.05), "mse", metrics=[metric])
        return found(model, model.fit(X, Y, batch_size=7, shuffle=False, verbose=0))

    assert_like_one_device(program, strategy)
