"""LARS against algorithm 1 of arXiv:1708.03888 in NumPy, in float64."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfscale.optimizers import LARS

Arrays = list[Any]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def starts() -> Arrays:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(4, 3)), rng.normal(size=3), np.zeros([3, 2]), rng.normal(size=3)]


NAMES = ("kernel", "bias", "kernel", "gamma")


def gradients(steps: int) -> list[Arrays]:
    rng = np.random.default_rng(1)
    return [[rng.normal(size=start.shape) for start in starts()] for _ in range(steps)]


def algorithm_1(
    steps: list[Arrays],
    rates: Callable[[int], float],
    *,
    momentum: float,
    decay: float,
    trust: float,
    is_nesterov: bool = False,
) -> Arrays:
    """The paper's loop over layers; a layer whose weights are zeros takes a ratio of 1."""
    weights, velocities = starts(), [np.zeros_like(start) for start in starts()]
    for t, step in enumerate(steps):
        for i, gradient in enumerate(step):
            moved = gradient
            if NAMES[i] == "kernel":
                norm = np.sqrt((weights[i] ** 2).sum())
                divisor = np.sqrt((gradient**2).sum()) + decay * norm
                ratio = trust * norm / divisor if norm > 0 else 1.0
                moved = ratio * (gradient + decay * weights[i])
            velocities[i] = momentum * velocities[i] + rates(t) * moved
            ahead = momentum * velocities[i] + rates(t) * moved
            weights[i] = weights[i] - (ahead if is_nesterov else velocities[i])
    return weights


def variables() -> list[Any]:
    return [
        keras.Variable(start, dtype="float64", name=name)
        for start, name in zip(starts(), NAMES, strict=True)
    ]


def trained(optimizer: Any, steps: list[Arrays]) -> Arrays:
    """What graphs of an optimizer's `apply` make of the start."""
    weights = variables()
    optimizer.build(weights)

    @tf.function
    def apply(step: list[tf.Tensor]) -> None:
        optimizer.apply(step, weights)

    for step in steps:
        apply([tf.constant(gradient) for gradient in step])
    return [weight.numpy() for weight in weights]


def compare(found: Arrays, wanted: Arrays) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("is_nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_weights_are_those_of_the_algorithm(
    momentum: float, decay: float, is_nesterov: bool
) -> None:
    rate = keras.optimizers.schedules.PolynomialDecay(np.float64(2.0), 6, np.float64(0.0), 2.0)
    optimizer = LARS(rate, momentum, is_nesterov, weight_decay=decay, trust_coefficient=0.02)
    wanted = algorithm_1(
        gradients(5),
        lambda t: 2.0 * (1 - t / 6) ** 2,  # the paper's own schedule
        momentum=momentum,
        decay=decay,
        trust=0.02,
        is_nesterov=is_nesterov and momentum > 0,
    )
    compare(trained(optimizer, gradients(5)), wanted)


def with_decay(**arguments: Any) -> LARS:
    return LARS(0.5, 0.9, weight_decay=0.05, trust_coefficient=0.02, **arguments)


def oracle(steps: list[Arrays]) -> Arrays:
    return algorithm_1(steps, lambda t: 0.5, momentum=0.9, decay=0.05, trust=0.02)


def test_clipping_comes_first() -> None:
    steps = gradients(3)
    norms = [np.sqrt(sum((gradient**2).sum() for gradient in step)) for step in steps]
    clipped = [
        [gradient / norm for gradient in step] for step, norm in zip(steps, norms, strict=True)
    ]
    compare(trained(with_decay(global_clipnorm=1.0), steps), oracle(clipped))


def test_accumulation_measures_the_mean_of_its_gradients() -> None:
    steps = gradients(6)
    means = [
        [(one + other) / 2 for one, other in zip(*pair, strict=True)]
        for pair in zip(steps[::2], steps[1::2], strict=True)
    ]
    compare(trained(with_decay(gradient_accumulation_steps=2), steps), oracle(means))


def test_loss_scaling_measures_the_gradient_unscaled() -> None:
    steps = gradients(3)
    steps[1][0][0, 0] = np.inf
    scaling = keras.optimizers.LossScaleOptimizer(with_decay(), initial_scale=8.0)
    scales = (8, 8, 4)
    scaled = [[g * scale for g in step] for step, scale in zip(steps, scales, strict=True)]
    # The step with inf is skipped, and the scale halved.
    compare(trained(scaling, scaled), oracle([steps[0], steps[2]]))


def test_averages_follow_the_weights() -> None:
    optimizer = with_decay(use_ema=True, ema_momentum=0.5)
    trained(optimizer, gradients(3))
    after = [oracle(gradients(count)) for count in (1, 2, 3)]
    wanted = [0.25 * one + 0.25 * two + 0.5 * three for one, two, three in zip(*after, strict=True)]
    averages = [v.numpy() for v in optimizer.variables if v.name.endswith("average")]
    compare(averages, wanted)


def test_rows_of_an_embedding_are_added_up_before_they_are_measured() -> None:
    dense, sparse = (keras.Variable(np.ones([4, 2]), name="embeddings") for _ in range(2))
    rows = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]], tf.float64), [1, 1], [4, 2])
    with_decay().apply([rows], [sparse])
    with_decay().apply([tf.constant([[0.0, 0], [4, 6], [0, 0], [0, 0]], tf.float64)], [dense])
    np.testing.assert_array_equal(sparse.numpy(), dense.numpy())


def test_variables_are_excluded_by_their_own_name_and_not_by_their_layers() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="gamma_of_bias")])
    optimizer = LARS()
    assert [optimizer.excludes(v.value) for v in model.trainable_variables] == [False, True]
    assert not LARS(exclude=()).excludes(model.trainable_variables[1].value)
    assert LARS(exclude=["kernel"]).excludes(model.trainable_variables[0].value)


def test_an_optimizer_comes_back_from_json() -> None:
    optimizer = with_decay(exclude=("bias", "gamma", "scale"), nesterov=True, name="mine")
    text = json.dumps(keras.optimizers.serialize(optimizer))
    again = keras.optimizers.deserialize(json.loads(text))
    assert type(again) is LARS
    assert again.get_config() == optimizer.get_config()
    assert again.exclude == ("bias", "gamma", "scale")
    compare(trained(again, gradients(2)), trained(optimizer, gradients(2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_decay": -0.1}, "`weight_decay` must be at least 0"),
        ({"trust_coefficient": 0.0}, "`trust_coefficient` must be positive"),
        ({"trust_coefficient": float("nan")}, "`trust_coefficient` must be positive"),
        ({"momentum": 1.5}, "momentum"),
        ({"exclude": "bias"}, "Pass exclude=\\('bias',\\)"),
    ],
)
def test_the_impossible_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LARS(0.1, **arguments)


def test_keras_way_to_name_exceptions_is_refused_and_not_ignored() -> None:
    with pytest.raises(ValueError, match=r"Pass the names to LARS\(exclude=\.\.\.\)"):
        LARS().exclude_from_weight_decay(var_names=["bias"])
