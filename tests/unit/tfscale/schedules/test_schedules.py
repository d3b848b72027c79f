"""Schedules against closed forms in NumPy, Keras's own included; arguments; configurations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfscale import schedules

Steps = Any
KERAS = keras.optimizers.schedules


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    keras.config.set_floatx("float32")


def rates(schedule: Any, steps: Any) -> Any:
    """What a graph computes at each step, as when a training step is traced."""
    dtype = keras.config.floatx()

    @tf.function
    def read(steps: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(schedule, steps, fn_output_signature=dtype)

    return read(tf.constant(steps, tf.int64)).numpy()


def cosine(steps: Steps) -> Steps:
    return 0.05 * (1 + np.cos(np.pi * np.minimum(steps / 70, 1)))


def stable(steps: Steps, end: float, decay: Callable[[Steps], Steps]) -> Steps:
    share = np.clip((steps - 50) / 30, 0, 1)
    return np.where(steps < 10, 0.1 * steps / 10, np.where(share < 1, decay(share), end))


def restarts(steps: Steps) -> Steps:
    """Periods of 7, 14, 28, 56: each twice as long and half as high."""
    period = np.searchsorted([0, 7, 21, 49, 105], steps, side="right") - 1
    share = (steps - 7 * (2.0**period - 1)) / (7 * 2.0**period)
    return 0.05 * 0.5**period * (1 + np.cos(np.pi * share))


# The rate that each schedule should have at an array of steps, written down without it.
CASES: dict[str, tuple[Callable[[], Any], Callable[[Steps], Steps]]] = {
    "constant": (lambda: schedules.constant(0.1), lambda s: 0.1 + 0 * s),
    "linear decay": (
        lambda: schedules.linear_decay(0.1, 70, 0.02),
        lambda s: 0.1 - 0.08 * np.minimum(s / 70, 1),
    ),
    "piecewise linear": (
        lambda: schedules.piecewise_linear([0, 4.5, 9, 60], [0.1, 0.7, 0.7, 0.0]),
        lambda s: np.interp(s, [0, 4.5, 9, 60], [0.1, 0.7, 0.7, 0.0]),
    ),
    "one cycle": (
        lambda: schedules.one_cycle(0.3, 99),
        lambda s: np.interp(s, [0, 44.5, 89, 99], [0.03, 0.3, 0.03, 3e-5]),
    ),
    "one cycle of its own": (
        lambda: schedules.one_cycle(
            0.3, 90, initial_learning_rate=0.1, final_learning_rate=0.0, final_steps=30
        ),
        lambda s: np.interp(s, [0, 30, 60, 90], [0.1, 0.3, 0.1, 0.0]),
    ),
    "inverse square root": (
        # Section 5.3 with d_model = 512: the paper's step is ours + 1.
        lambda: schedules.inverse_square_root_decay((512 * 20) ** -0.5, 20),
        lambda s: 512**-0.5 * np.minimum((s + 1.0) ** -0.5, (s + 1) * 20**-1.5),
    ),
    "stable, linear": (
        lambda: schedules.warmup_stable_decay(
            0.1, warmup_steps=10, stable_steps=40, decay_steps=30, end_learning_rate=0.01
        ),
        lambda s: stable(s, 0.01, lambda share: 0.1 - 0.09 * share),
    ),
    "stable, exponential": (
        lambda: schedules.warmup_stable_decay(
            0.1,
            warmup_steps=10,
            stable_steps=40,
            decay_steps=30,
            end_learning_rate=0.01,
            decay="exponential",
        ),
        lambda s: stable(s, 0.01, lambda share: 0.1 * 0.1**share),
    ),
    "no stable part": (
        lambda: schedules.warmup_stable_decay(
            0.1, warmup_steps=0, stable_steps=0, decay_steps=80, decay="linear"
        ),
        lambda s: 0.1 - 0.1 * np.minimum(s / 80, 1),
    ),
    "warm-up from above": (
        lambda: schedules.warmup(0.1, 8, initial=0.5),
        lambda s: 0.1 + 0.4 * np.maximum(1 - s / 8, 0),
    ),
    "warm-up of no steps": (lambda: schedules.warmup(KERAS.CosineDecay(0.1, 70), 0), cosine),
    "cosine": (
        lambda: schedules.warmup(KERAS.CosineDecay(0.1, 70), 20),
        lambda s: np.where(s < 20, 0.1 * s / 20, cosine(s - 20)),
    ),
    "cosine with Keras's own warm-up": (
        lambda: schedules.join([KERAS.CosineDecay(0.0, 70, 0.0, "c", 0.1, 20)], []),
        lambda s: np.where(s < 20, 0.1 * s / 20, cosine(s - 20)),
    ),
    "cosine with restarts": (
        lambda: schedules.join([KERAS.CosineDecayRestarts(0.1, 7, 2.0, 0.5)], []),
        restarts,
    ),
    "equal restarts": (
        lambda: schedules.join([KERAS.CosineDecayRestarts(0.1, 49, 1.0)], []),
        lambda s: 0.05 * (1 + np.cos(np.pi * (s % 49) / 49)),
    ),
    "stairs": (  # 49 * (1 / 49) < 1 in float64, 41 * (1 / 41) < 1 in float32
        lambda: schedules.join([KERAS.ExponentialDecay(0.1, 49, 0.3, staircase=True)], []),
        lambda s: 0.1 * 0.3 ** (s // 49),
    ),
    "stairs of inverse time": (
        lambda: schedules.join([KERAS.InverseTimeDecay(0.1, 41, 0.3, staircase=True)], []),
        lambda s: 0.1 / (1 + 0.3 * (s // 41)),
    ),
    "polynomial": (
        lambda: schedules.join([KERAS.PolynomialDecay(0.1, 70, 0.02, power=2.5)], []),
        lambda s: 0.02 + 0.08 * (1 - np.minimum(s / 70, 1)) ** 2.5,
    ),
    "exponential": (
        lambda: schedules.join([KERAS.ExponentialDecay(0.1, 70, 0.3)], []),
        lambda s: 0.1 * 0.3 ** (s / 70),
    ),
    "inverse time": (
        lambda: schedules.join([KERAS.InverseTimeDecay(0.1, 70, 0.3)], []),
        lambda s: 0.1 / (1 + 0.3 * s / 70),
    ),
    "piecewise constant": (
        # Keras's boundary is the last step of its part, ours the first of the next.
        lambda: schedules.join([KERAS.PiecewiseConstantDecay([30, 60], [0.1, 0.01, 0.003])], []),
        lambda s: np.where(s <= 30, 0.1, np.where(s <= 60, 0.01, 0.003)),
    ),
    "join": (
        lambda: schedules.join([0.3, KERAS.CosineDecay(0.1, 70), 0.01], [10, 60]),
        lambda s: np.where(s < 10, 0.3, np.where(s < 60, cosine(s - 10), 0.01)),
    ),
    "nested": (
        lambda: schedules.adjustable(
            schedules.warmup(schedules.join([KERAS.CosineDecay(0.1, 70), 0.7], [50]), 20), 0.5
        ),
        lambda s: 0.5 * np.where(s < 20, s / 200, np.where(s < 70, cosine(s - 20), 0.7)),
    ),
}

# `schedule_by_name` with 100 steps and a highest rate of 0.1; the names are also frozen by this.
NAMED: dict[str, tuple[int, Callable[[Steps], Steps]]] = {
    "constant": (20, lambda s: np.minimum(s / 200, 0.1)),
    "cosine": (30, lambda s: np.where(s < 30, s / 300, cosine(s - 30))),
    "linear": (20, lambda s: np.interp(s, [0, 20, 100], [0, 0.1, 0])),
    "exponential": (20, lambda s: np.where(s < 20, s / 200, 0.1 * 0.01 ** ((s - 20) / 80))),
    "piecewise": (
        20,
        lambda s: np.where(s < 20, s / 200, np.where(s < 60, 0.1, np.where(s < 80, 0.01, 0.001))),
    ),
    "warmup_stable_decay": (20, lambda s: np.interp(s, [0, 20, 90, 100], [0, 0.1, 0.1, 0])),
    "inverse_square_root": (
        20,
        lambda s: 0.1 * np.minimum((s + 1) / 20, np.sqrt(20 / (s + 1))),
    ),
    "one_cycle": (0, lambda s: np.interp(s, [0, 45, 90, 100], [0.01, 0.1, 0.01, 1e-5])),
}


@pytest.mark.parametrize("case", CASES)
def test_a_float64_rate_is_the_closed_form_at_every_step(case: str) -> None:
    keras.config.set_floatx("float64")
    build, closed_form = CASES[case]
    steps = np.arange(105)
    np.testing.assert_allclose(rates(build(), steps), closed_form(steps), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", CASES)
def test_a_float32_rate_is_the_closed_form_rounded_once(case: str) -> None:
    build, closed_form = CASES[case]
    steps = np.arange(105)
    wanted = closed_form(steps).astype(np.float32)
    # Where the decay ends in 0, a closed form's last bits are not 0.
    np.testing.assert_allclose(rates(build(), steps), wanted, rtol=1e-7, atol=1e-15)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_schedule_is_its_closed_form_at_every_step(name: str) -> None:
    keras.config.set_floatx("float64")
    warmup_steps, closed_form = NAMED[name]
    schedule = schedules.schedule_by_name(
        name, learning_rate=0.1, num_steps=100, warmup_steps=warmup_steps
    )
    steps = np.arange(101)
    wanted = closed_form(steps[:100])
    np.testing.assert_allclose(rates(schedule, steps[:100]), wanted, rtol=1e-12, atol=1e-15)


def test_the_names_are_the_ones_documented() -> None:
    assert set(schedules.SCHEDULES) == set(NAMED)
    assert all(name in str(schedules.schedule_by_name.__doc__) for name in schedules.SCHEDULES)


@pytest.mark.parametrize("case", CASES)
def test_a_schedule_comes_back_from_json(case: str) -> None:
    keras.config.set_floatx("float64")
    schedule = CASES[case][0]()
    text = json.dumps(keras.saving.serialize_keras_object(schedule))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    steps = np.arange(0, 105, 7)
    np.testing.assert_array_equal(rates(again, steps), rates(schedule, steps))


def test_keras_own_schedule_is_kept_in_the_configuration_as_it_was_given() -> None:
    given = KERAS.CosineDecay(0.1, 70)
    config = schedules.warmup(given, 5).get_config()["schedule"]
    assert config == keras.saving.serialize_keras_object(given)
    assert type(given.initial_learning_rate) is float


@pytest.mark.parametrize("floatx", ["float32", "float64"])
@pytest.mark.parametrize("far", [2**24 + 1, 2**33 + 1])
def test_steps_that_float32_cannot_tell_apart_are_told_apart(far: int, floatx: str) -> None:
    keras.config.set_floatx(floatx)
    switch = schedules.join([0.5, KERAS.PiecewiseConstantDecay([0], [0.25, 0.125])], [far])
    near = [far - 1, far, far + 1]
    assert rates(switch, near).tolist() == [0.5, 0.25, 0.125]
    assert [float(switch(step)) for step in near] == [0.5, 0.25, 0.125]
    line = schedules.piecewise_linear([0, far - 1, far + 1], [0.0, 0.0, 1.0])
    assert rates(line, near).tolist() == [0.0, 0.5, 1.0]


def test_an_optimizer_reads_the_rate_of_its_iterations() -> None:
    optimizer = keras.optimizers.SGD(schedules.linear_decay(1.0, 2**26))
    optimizer.iterations.assign(2**24 + 2)
    assert optimizer.learning_rate.dtype == tf.float32
    assert float(optimizer.learning_rate) == np.float32(0.75 - 2.0**-25)


@keras.saving.register_keras_serializable(package="tests")
class Halving(KERAS.LearningRateSchedule):  # type: ignore[name-defined]
    """A user's own, which expects whole steps and computes in float32."""

    def __call__(self, step: Any) -> Any:
        assert "int" in step.dtype.name
        return tf.pow(tf.constant(0.5), tf.cast(step, tf.float32))

    def get_config(self) -> dict[str, Any]:
        return {}


def test_a_schedule_of_the_users_own_is_joined_as_it_is() -> None:
    keras.config.set_floatx("float64")
    schedule = schedules.warmup(Halving(), 2)
    assert rates(schedule, [0, 1, 2, 3, 4]).tolist() == [0.0, 0.5, 1.0, 0.5, 0.25]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert isinstance(again.schedule, Halving)


def test_a_traced_rate_follows_its_factor() -> None:
    schedule = schedules.adjustable(0.5)
    read = tf.function(lambda step: schedule(step))
    step = tf.constant(3, tf.int64)
    assert float(read(step)) == 0.5
    schedule.factor = 0.25
    assert float(read(step)) == 0.125
    assert schedule.get_config() == {"schedule": 0.5, "factor": 0.25}
    assert schedules.Adjustable.from_config(schedule.get_config()).factor == 0.25


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((0.1, 256), 0.1),
        ((0.1, 8192), 3.2),  # Goyal et al., section 2.1: 0.1 * kn / 256 with kn = 8192
        ((0.1, 64), 0.025),
        ((0.004, 1024, 256, "sqrt"), 0.008),
        ((0.0, 32, 64, "sqrt"), 0.0),
    ],
)
def test_a_rate_scales_with_the_global_batch(arguments: tuple[Any, ...], wanted: float) -> None:
    assert schedules.scale_learning_rate(*arguments) == pytest.approx(wanted, rel=1e-15)


WRONG_TEXT: Any = "0.1"
WRONG_STEPS: Any = 2.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: schedules.constant(-0.1), "`learning_rate` must be at least 0"),
        (lambda: schedules.constant(float("nan")), "`learning_rate` must be a finite number"),
        (lambda: schedules.constant(WRONG_TEXT), "`learning_rate` must be a finite number"),
        (lambda: schedules.warmup(0.1, -1), "`warmup_steps` must be an integer, at least 0"),
        (lambda: schedules.warmup(0.1, WRONG_STEPS), "Received: warmup_steps=2.5"),
        (lambda: schedules.warmup(0.1, True), "Received: warmup_steps=True"),
        (lambda: schedules.warmup(0.1, 5, initial=-1.0), "`initial` must be at least 0"),
        (lambda: schedules.warmup(lambda: 0.1, 5), "`schedule` must be a LearningRateSchedule"),
        (lambda: schedules.warmup("cosine", 5), "`schedule` must be a finite number"),
        (lambda: schedules.join([], []), "`schedules` must be one more than the boundaries"),
        (lambda: schedules.join([0.1], [5]), "Received: 1 schedules and boundaries=\\[5\\]"),
        (lambda: schedules.join([0.1] * 3, [5, 5]), "`boundaries` must increase"),
        (lambda: schedules.join([0.1] * 2, [0]), "`boundaries` must be a positive integer"),
        (lambda: schedules.linear_decay(0.1, 0), "`decay_steps` must be a positive integer"),
        (lambda: schedules.piecewise_linear([0, 1], [1.0]), "`learning_rates` must be as many"),
        (lambda: schedules.piecewise_linear([], []), "at least one"),
        (lambda: schedules.piecewise_linear([1, 2], [1, 2]), "`steps` must begin with 0"),
        (lambda: schedules.piecewise_linear([0, 0], [1, 2]), "`steps` must begin with 0"),
        (lambda: schedules.one_cycle(0.0, 10), "`maximum_learning_rate` must be positive"),
        (lambda: schedules.one_cycle(0.1, 1), "`num_steps` must be an integer, at least 2"),
        (lambda: schedules.one_cycle(0.1, 9, final_steps=9), "`final_steps` must be fewer than"),
        (
            lambda: schedules.inverse_square_root_decay(0.1, 0),
            "`warmup_steps` must be a positive integer",
        ),
        (
            lambda: schedules.warmup_stable_decay(
                0.1, warmup_steps=1, stable_steps=1, decay_steps=1, decay="cosine"
            ),
            "`decay` must be one of linear, exponential. Received: decay='cosine'",
        ),
        (
            lambda: schedules.warmup_stable_decay(
                0.1, warmup_steps=1, stable_steps=1, decay_steps=1, decay="exponential"
            ),
            "`end_learning_rate` must be positive",
        ),
        (lambda: schedules.adjustable(0.1, -1.0), "`factor` must be at least 0"),
        (
            lambda: schedules.scale_learning_rate(0.1, 0),
            "`global_batch_size` must be a positive integer",
        ),
        (lambda: schedules.scale_learning_rate(0.1, 1, rule="cube"), "`rule` must be one of"),
        (lambda: schedules.constant(0.1)(2.0), "`step` must be a whole number"),
    ],
)
def test_the_impossible_is_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("name", "num_steps", "warmup_steps", "message"),
    [
        ("cosin", 10, 0, "`name` must be one of constant, cosine"),
        ("cosine", 10, 10, "`warmup_steps` must be fewer than the 10 steps"),
        ("cosine", 0, 0, "`num_steps` must be a positive integer"),
        ("inverse_square_root", 10, 0, "`warmup_steps` must be positive"),
        ("one_cycle", 10, 1, "`warmup_steps` must be 0"),
        ("warmup_stable_decay", 100, 91, "`warmup_steps` must leave the last 10 of 100 steps"),
        ("piecewise", 5, 2, "`num_steps` must be at least 4 more"),
    ],
)
def test_a_name_that_does_not_suit_the_run_is_refused(
    name: str, num_steps: int, warmup_steps: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        schedules.schedule_by_name(
            name, learning_rate=0.1, num_steps=num_steps, warmup_steps=warmup_steps
        )
