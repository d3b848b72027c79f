"""A step that changes gradients before it applies them changes those of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
    found,
)
from tests.unit.strategies.keras_support.collectives import GraphWatch

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

EAGER = pytest.mark.parametrize(
    "is_eager",
    [pytest.param(False, id="graph"), pytest.param(True, id="eager", marks=pytest.mark.thorough)],
)

Gradients = list[Any]
Step = Callable[[Any, Any, Any], dict[str, Any]]


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.thorough)])
def strategy(request: pytest.FixtureRequest) -> tf.distribute.Strategy:
    strategies.mirrored_strategy(3)  # TensorFlow must have all three before it starts
    return strategies.mirrored_strategy(request.param)


def loss_of(model: Any, x: Any, y: Any) -> Any:
    return tf.reduce_mean(tf.square(y - model(x, training=True)))


def gradients_of(model: Any, x: Any, y: Any) -> Gradients:
    with tf.GradientTape() as tape:
        loss = loss_of(model, x, y)
    return list(tape.gradient(loss, model.trainable_variables))


def applied(model: Any, gradients: Any) -> None:
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


def clipped_in_step(model: Any, x: Any, y: Any) -> dict[str, Any]:
    gradients, norm = tf.clip_by_global_norm(gradients_of(model, x, y), 0.1)
    applied(model, gradients)
    return {"norm": norm}


def sharpness_aware(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """Foret et al. 2020, arXiv:2010.01412: the gradient at a point up the slope."""
    first = gradients_of(model, x, y)
    norm = tf.linalg.global_norm(first)
    moves = [0.05 * g / (norm + 1e-12) for g in first]
    for variable, move in zip(model.trainable_variables, moves, strict=True):
        variable.assign_add(move)
    second = gradients_of(model, x, y)
    for variable, move in zip(model.trainable_variables, moves, strict=True):
        variable.assign_sub(move)
    applied(model, second)
    return {"norm": norm}


def projected_conflicts(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """Yu et al. 2020, arXiv:2001.06782: a gradient projected off a conflicting one."""
    with tf.GradientTape(persistent=True) as tape:
        errors = tf.square(y - model(x, training=True))
        losses = [tf.reduce_mean(errors[:, 0]), tf.reduce_mean(errors[:, 1])]
    one, other = (tape.gradient(loss, model.trainable_variables) for loss in losses)
    result = []
    for a, b in zip(one, other, strict=True):
        product = tf.reduce_sum(a * b)
        result.append(a + b - tf.minimum(product, 0.0) * b / (tf.reduce_sum(b * b) + 1e-12))
    applied(model, result)
    return {"product": product}


def penalty_on_the_gradient(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """A gradient of a norm of gradients: the reduction is differentiated."""
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            loss = loss_of(model, x, y)
        first = inner.gradient(loss, model.trainable_variables)
        total = loss + 0.3 * tf.add_n([tf.reduce_sum(g * g) for g in first])
    applied(model, outer.gradient(total, model.trainable_variables))
    return {"total": total}


def meta_learned(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """Finn et al. 2017, arXiv:1703.03400: the loss after a step, with tensors as fast weights."""
    kernel, bias = model.trainable_variables[:2]
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            loss = loss_of(model, x, y)
        step, _ = inner.gradient(loss, [kernel, bias])
        fast = kernel - 0.1 * step
        with tf.GradientTape() as second:
            second.watch(fast)
            later = tf.reduce_mean(tf.square(tf.tanh(tf.matmul(x, fast) + bias)))
        further = fast - 0.1 * second.gradient(later, fast)
        total = tf.reduce_mean(tf.square(tf.matmul(x, further) - 1.0))
    applied(model, outer.gradient(total, model.trainable_variables))
    return {"total": total}


def kept_in_variables(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """Accumulates in its variables and applies every second step, in a tf.cond."""
    for kept, gradient in zip(model.kept, gradients_of(model, x, y), strict=True):
        kept.assign_add(gradient)
    model.steps.assign_add(1)

    def apply() -> tf.Tensor:
        applied(model, [kept / 2.0 for kept in model.kept])
        for kept in model.kept:
            kept.assign(tf.zeros_like(kept))
        return tf.constant(1)

    tf.cond(tf.equal(model.steps % 2, 0), apply, lambda: tf.constant(0))
    return {}


def by_hand(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """No tape: a mean over rows that the step computes itself."""
    error = model(x, training=True) - y
    kernel = tf.zeros_like(model.trainable_variables[0])
    last = tf.reduce_mean(error, axis=0)
    applied(model, [kernel, tf.zeros_like(model.trainable_variables[1]), None, last])
    return {}


def of_rows(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """A target of rank 1 counts as its sum; one of them is a scalar."""
    with tf.GradientTape() as tape:
        each = tf.reduce_sum(tf.square(y - model(x, training=True)), axis=1)
        penalty = 0.1 * tf.reduce_sum(tf.square(model.trainable_variables[0]))
    applied(model, tape.gradient([each, penalty], model.trainable_variables))
    return {}


def in_two_functions(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """A tf.function with a Python condition on tensors, and one that applies gradients."""

    @tf.function
    def weighted(a: Any, b: Any) -> Any:
        gradients = gradients_of(model, a, b)
        if tf.linalg.global_norm(gradients) > 0.5:
            factor = tf.constant(0.5, tf.float64)
        else:
            factor = tf.constant(1.0, tf.float64)
        return [factor * g for g in gradients]

    @tf.function
    def apply(a: Any, b: Any) -> None:
        applied(model, weighted(a, b))

    apply(x, y)
    return {}


def in_parts(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """Sums the gradients of three losses and applies them in one call."""
    with tfscale.local_gradients():
        parts = [gradients_of(model, x, y * scale) for scale in (1.0, 0.5, -2.0)]
    applied(model, [tf.add_n(each) / 3.0 for each in zip(*parts, strict=True)])
    return {}


def in_a_loop(model: Any, x: Any, y: Any) -> dict[str, Any]:
    def body(i: Any, total: Any) -> Any:
        gradients = gradients_of(model, x, y * tf.cast(i, tf.float64))
        return i + 1, [a + 0.5 * b for a, b in zip(total, gradients, strict=True)]

    zeros = [tf.zeros_like(v) for v in model.trainable_variables]
    _, total = tf.while_loop(lambda i, _: i < 3, body, (tf.constant(0), zeros))
    applied(model, total)
    return {}


STEPS = (
    clipped_in_step,
    sharpness_aware,
    projected_conflicts,
    penalty_on_the_gradient,
    meta_learned,
    kept_in_variables,
    by_hand,
    of_rows,
    in_two_functions,
    in_parts,
    in_a_loop,
)


def stepping(step: Step) -> type[keras.Sequential]:
    class Stepping(keras.Sequential):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            return {"steps": 1.0, **step(self, x, y)}

    return Stepping


def build(step: Step, optimizer: Any = None, **arguments: Any) -> Any:
    dense = keras.layers.Dense
    model = stepping(step)([keras.Input((3,)), dense(4, activation="tanh"), dense(2)])
    model.compile(optimizer or keras.optimizers.Adam(0.05), "mse", **arguments)
    model.optimizer.build(model.trainable_variables)
    if step is kept_in_variables:
        model.kept = [
            keras.Variable(keras.ops.zeros(v.shape), trainable=False, dtype="float64")
            for v in model.trainable_variables
        ]
        model.steps = keras.Variable(0, trainable=False, dtype="int64")
    return model


@EAGER
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_step_that_changes_gradients_matches_one_device(
    strategy: tf.distribute.Strategy, step: Step, is_eager: bool
) -> None:
    if is_eager and strategy.num_replicas_in_sync == 3:
        pytest.skip("eager steps are slow; two replicas show them")

    def program(each: tf.distribute.Strategy) -> Found:
        with each.scope():
            model = build(step, run_eagerly=is_eager)
        history = model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0)
        return found(model, history)

    assert_like_one_device(program, strategy)


@pytest.mark.parametrize("step", [clipped_in_step, in_parts], ids=lambda step: step.__name__)
def test_gradients_are_reduced_by_one_collective(
    strategy: tf.distribute.Strategy, step: Step
) -> None:
    with strategy.scope():
        model = build(step)
        model.add(GraphWatch())
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=6, shuffle=False, verbose=0)
    replicas = strategy.num_replicas_in_sync
    # One for gradients, one for results of the step that are not metrics.
    assert len(model.layers[-1].step_collectives) <= 2 * replicas


def refused(strategy: tf.distribute.Strategy, step: Step, match: str, **arguments: Any) -> None:
    with strategy.scope():
        model = build(step, **arguments)
    with pytest.raises(ValueError, match=match):
        model.fit(X, Y, batch_size=6, shuffle=False, verbose=0)


def test_a_clip_of_local_gradients_is_refused(strategy: tf.distribute.Strategy) -> None:
    def step(model: Any, x: Any, y: Any) -> dict[str, Any]:
        with tfscale.local_gradients():
            gradients = gradients_of(model, x, y)
        applied(model, tf.clip_by_global_norm(gradients, 0.1)[0])
        return {}

    refused(strategy, step, "may only be added and scaled.*went through")


def test_a_norm_inside_a_loop_is_refused(strategy: tf.distribute.Strategy) -> None:
    def step(model: Any, x: Any, y: Any) -> dict[str, Any]:
        def body(i: Any, total: Any) -> Any:
            gradients = tf.clip_by_global_norm(gradients_of(model, x, y), 0.1)[0]
            return i + 1, [a + b for a, b in zip(total, gradients, strict=True)]

        zeros = [tf.zeros_like(v) for v in model.trainable_variables]
        _, total = tf.while_loop(lambda i, _: i < 3, body, (tf.constant(0), zeros))
        applied(model, total)
        return {}

    refused(strategy, step, "may only be added and scaled")


def test_different_noise_on_reduced_gradients_is_refused(
    strategy: tf.distribute.Strategy,
) -> None:
    def step(model: Any, x: Any, y: Any) -> dict[str, Any]:
        gradients = gradients_of(model, x, y)
        applied(model, [g + tf.random.normal(g.shape, dtype=tf.float64) for g in gradients])
        return {}

    refused(strategy, step, "must not mix gradients from tape.gradient")


@pytest.mark.parametrize("is_eager", [False, True], ids=["graph", "eager"])
def test_the_size_of_a_replica_batch_in_reduced_gradients_is_refused(
    strategy: tf.distribute.Strategy, is_eager: bool
) -> None:
    def step(model: Any, x: Any, y: Any) -> dict[str, Any]:
        rows = tf.cast(tf.shape(x)[0], tf.float64)
        applied(model, [g / rows for g in gradients_of(model, x, y)])
        return {}

    refused(strategy, step, "must not mix gradients from tape.gradient", run_eagerly=is_eager)


def test_an_update_under_a_condition_of_one_replica_is_refused(
    strategy: tf.distribute.Strategy,
) -> None:
    def step(model: Any, x: Any, y: Any) -> dict[str, Any]:
        gradients = gradients_of(model, x, y)

        def apply() -> tf.Tensor:
            applied(model, gradients)
            return tf.constant(1)

        is_good = tf.math.is_finite(loss_of(model, x, y))
        tf.cond(is_good, apply, lambda: tf.constant(0))
        return {}

    refused(strategy, step, "`pred` of the tf.cond around optimizer")


def test_gradients_computed_and_applied_in_one_condition_are_refused(
    strategy: tf.distribute.Strategy,
) -> None:
    def step(model: Any, x: Any, y: Any) -> dict[str, Any]:
        def apply() -> tf.Tensor:
            applied(model, gradients_of(model, x, y))
            return tf.constant(1)

        tf.cond(model.optimizer.iterations.value >= 0, apply, lambda: tf.constant(0))
        return {}

    refused(strategy, step, "computed outside of it")


def test_a_gradient_of_the_input_is_not_reduced(strategy: tf.distribute.Strategy) -> None:
    """The penalty of WGAN-GP: Gulrajani et al. 2017, arXiv:1704.00028."""

    def step(model: Any, x: Any, y: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                predicted = model(x, training=True)
            slopes = inner.gradient(predicted, x)
            penalty = tf.reduce_mean(tf.square(tf.norm(slopes, axis=1) - 1.0))
        applied(model, tape.gradient(penalty, model.trainable_variables))
        return {"penalty": penalty}

    def program(each: tf.distribute.Strategy) -> Found:
        with each.scope():
            model = build(step)
        return found(model, model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0))

    assert_like_one_device(program, strategy)


def test_a_recomputed_layer_is_reduced_once(strategy: tf.distribute.Strategy) -> None:
    """`tf.recompute_grad` asks for gradients in the middle of a backward pass."""

    def step(model: Any, x: Any, y: Any) -> dict[str, Any]:
        first = tf.recompute_grad(lambda value: tf.square(model.layers[0](value)))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model.layers[1](first(x)) - y))
        gradients, norm = tf.clip_by_global_norm(tape.gradient(loss, model.trainable_variables), 1)
        applied(model, gradients)
        return {"norm": norm}

    def program(each: tf.distribute.Strategy) -> Found:
        with each.scope():
            model = build(step)
        return found(model, model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0))

    assert_like_one_device(program, strategy)


def test_local_gradients_does_nothing_outside_a_step() -> None:
    variable = tf.Variable(3.0)
    with tfscale.local_gradients(), tf.GradientTape() as tape:
        target = variable * variable
    assert float(tape.gradient(target, variable)) == 6.0


def test_a_loop_between_the_replicas_is_refused_with_the_cure(
    strategy: tf.distribute.Strategy,
) -> None:
    with strategy.scope():
        variable = keras.Variable([1.0], dtype="float64")
        with tf.GradientTape() as tape:
            target = tf.reduce_sum(tf.convert_to_tensor(X[:1]) * 2.0)
        with pytest.raises(ValueError, match=r"must be called on the replicas.*strategy\.run"):
            tape.gradient(target, [variable])
