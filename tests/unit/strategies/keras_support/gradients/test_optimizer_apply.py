"""An optimizer gets the sum over the replicas once, and is not changed otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.collectives import GraphWatch

pytestmark = pytest.mark.own_process


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


class FailingSGD(keras.optimizers.SGD):
    """Fails in the middle of an update."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        raise ArithmeticError("no update today")


def compiled(optimizer: Any, layers: Sequence[Any], **arguments: Any) -> Any:
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", **arguments)
    return model


def aggregations(variables: Sequence[Any]) -> list[Any]:
    return [variable._value.aggregation for variable in variables]


def copies(strategy: tf.distribute.Strategy, variable: Any) -> list[Any]:
    return [c.numpy().tolist() for c in strategy.experimental_local_results(variable._value)]


def applied(
    strategy: tf.distribute.Strategy, optimizer: Any, variable: Any, gradients: Sequence[Any]
) -> None:
    """A custom training loop, outside `fit`: one step with a gradient for each replica."""
    per_replica = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(gradients[context.replica_id_in_sync_group], tf.float32)
    )

    def on_replica(gradient: tf.Tensor) -> None:
        optimizer.apply([gradient], [variable])

    tf.function(lambda: strategy.run(on_replica, args=(per_replica,)))()


@pytest.fixture
def variable(strategy: tf.distribute.Strategy) -> Any:
    with strategy.scope():
        return keras.Variable([0.0, 0.0])


def built(strategy: tf.distribute.Strategy, optimizer: Any, variable: Any) -> Any:
    with strategy.scope():
        made = optimizer()
        made.build([variable])
    return made


def test_a_custom_loop_sums_gradients_without_weights(
    strategy: tf.distribute.Strategy, variable: Any
) -> None:
    optimizer = built(strategy, lambda: keras.optimizers.SGD(1.0), variable)
    applied(strategy, optimizer, variable, [[1.0, 10.0], [2.0, 20.0]])
    assert copies(strategy, variable) == [[-3.0, -30.0]] * 2
    applied(strategy, optimizer, variable, [[1.0, 0.0], [0.0, 0.0]])
    assert copies(strategy, variable) == [[-4.0, -30.0]] * 2
    assert copies(strategy, optimizer.iterations) == [2, 2]


def test_clipping_uses_the_sum_and_not_its_parts(
    strategy: tf.distribute.Strategy, variable: Any
) -> None:
    def clipping() -> Any:
        return keras.optimizers.SGD(1.0, global_clipnorm=1.0)

    applied(strategy, built(strategy, clipping, variable), variable, [[3.0, 0.0], [0.0, 4.0]])
    # |(3, 4)| = 5. Clipped one by one the parts would be (1, 0) and (0, 1).
    np.testing.assert_allclose(copies(strategy, variable), [[-0.6, -0.8]] * 2, rtol=1e-6)


@pytest.mark.parametrize("replica", [0, 1])
def test_an_inf_on_either_replica_skips_the_step_and_halves_the_scale(
    strategy: tf.distribute.Strategy, variable: Any, replica: int
) -> None:
    def scaling() -> Any:
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=8.0)

    optimizer = built(strategy, scaling, variable)
    gradients = [[8.0, 16.0], [8.0, 0.0]]
    gradients[replica][0] = float("inf")
    applied(strategy, optimizer, variable, gradients)
    assert copies(strategy, variable) == [[0.0, 0.0]] * 2
    assert copies(strategy, optimizer.dynamic_scale) == [4.0, 4.0]
    applied(strategy, optimizer, variable, [[8.0, 16.0], [8.0, 0.0]])
    assert copies(strategy, variable) == [[-4.0, -4.0]] * 2
    assert copies(strategy, optimizer.iterations) == [1, 1]


REDUCED_ONCE = {
    "plain": lambda: keras.optimizers.SGD(0.1),
    "clipping": lambda: keras.optimizers.Adam(0.1, global_clipnorm=1.0),
    "nested": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
    "accumulating": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
}
SHORT = (("plain", 1), ("clipping", 2), ("nested", 1), ("accumulating", 2))


@pytest.mark.parametrize(
    ("optimizer", "steps_per_execution"),
    [
        pytest.param(
            optimizer,
            steps,
            id=f"{name}-{steps}",
            marks=() if (name, steps) in SHORT else pytest.mark.thorough,
        )
        for name, optimizer in REDUCED_ONCE.items()
        for steps in (1, 2)
    ],
)
def test_a_training_step_reduces_once_on_each_replica(
    strategy: tf.distribute.Strategy, optimizer: Any, steps_per_execution: int
) -> None:
    with strategy.scope():
        watch = GraphWatch()
        layers = [keras.Input((4,)), watch, keras.layers.Dense(3), keras.layers.Dense(1)]
        model = compiled(optimizer(), layers, steps_per_execution=steps_per_execution)
    model.fit(np.ones([8, 4]), np.ones([8, 1]), batch_size=2, verbose=0)
    assert watch.step_collectives == ["CollectiveReduceV2"] * 2


def test_optimizer_and_model_are_not_changed_otherwise(strategy: tf.distribute.Strategy) -> None:
    with strategy.scope():
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1, use_ema=True))
        model = compiled(optimizer, [keras.Input((4,)), keras.layers.Dense(1)])
        optimizer.build(model.trainable_variables)
    variables = [*optimizer.variables, *model.trainable_variables]
    before = aggregations(variables)
    assert len(set(before)) > 1
    model.fit(np.ones([5, 4]), np.ones([5, 1]), verbose=0)
    assert aggregations(variables) == before
    assert "_use_merge_call" not in vars(strategy.extended)


def test_an_exception_in_an_update_changes_nothing(
    strategy: tf.distribute.Strategy, variable: Any
) -> None:
    optimizer = built(strategy, lambda: FailingSGD(1.0), variable)
    before = aggregations([*optimizer.variables, variable])
    with pytest.raises(
        Exception, match="no update today"
    ):  # autograph re-raises it as another type
        applied(strategy, optimizer, variable, [[1.0, 1.0], [1.0, 1.0]])
    assert aggregations([*optimizer.variables, variable]) == before
    assert "_use_merge_call" not in vars(strategy.extended)
    again = built(strategy, lambda: keras.optimizers.SGD(1.0), variable)
    applied(strategy, again, variable, [[1.0, 10.0], [2.0, 20.0]])
    assert copies(strategy, variable) == [[-3.0, -30.0]] * 2


def test_an_exception_in_fit_leaves_the_next_fit_right(strategy: tf.distribute.Strategy) -> None:
    rows, targets = np.eye(4), np.arange(4.0)[:, None]
    with strategy.scope():
        layers = [keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="zeros")]
        model = compiled(FailingSGD(1.0), layers)
    with pytest.raises(ArithmeticError, match="no update today"):
        model.fit(rows, targets, batch_size=4, verbose=0)
    with strategy.scope():
        model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(rows, targets, batch_size=4, verbose=0)
    # d/dk mean (k_i + b - y_i)^2 at 0 is -2 y_i / 4, and for the bias their sum.
    np.testing.assert_allclose(copies(strategy, model.weights[0])[1], targets / 2, rtol=1e-6)
    np.testing.assert_allclose(copies(strategy, model.weights[1]), [[3.0]] * 2, rtol=1e-6)


@pytest.fixture
def other_mode(strategy: tf.distribute.Strategy) -> Iterator[Any]:
    """Sets what TensorFlow's tests set, to take the branch without merge calls."""
    mode = strategy.extended._use_merge_call = lambda: True
    yield mode
    del strategy.extended._use_merge_call


def test_a_mode_that_was_set_before_is_restored(
    strategy: tf.distribute.Strategy, variable: Any, other_mode: Any
) -> None:
    optimizer = built(strategy, lambda: keras.optimizers.SGD(1.0), variable)
    applied(strategy, optimizer, variable, [[1.0, 10.0], [2.0, 20.0]])
    assert strategy.extended._use_merge_call is other_mode
    assert copies(strategy, variable) == [[-3.0, -30.0]] * 2


def test_rows_of_an_embedding_are_reduced_separately_from_the_pack(
    strategy: tf.distribute.Strategy,
) -> None:
    with strategy.scope():
        watch = GraphWatch()
        embedding = keras.layers.Embedding(5, 2, embeddings_initializer="zeros")
        layers = [keras.Input((1,), dtype="int32"), watch, embedding, keras.layers.Flatten()]
        model = compiled(keras.optimizers.SGD(1.0), layers)
    model.fit(np.array([[0], [1], [1]]), np.array([[3.0, 6.0]] * 3), batch_size=3, verbose=0)
    # The loss averages over 3 examples and 2 outputs: d/de of row i is -2 y / 6 an occurrence.
    wanted = np.zeros([5, 2])
    wanted[0], wanted[1] = [1.0, 2.0], [2.0, 4.0]
    np.testing.assert_allclose(copies(strategy, model.weights[0]), [wanted] * 2, rtol=1e-6)
