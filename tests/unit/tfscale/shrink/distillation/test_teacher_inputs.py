"""Teachers and students with several inputs, or with inputs that do not fit each other."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    assert_like_one_device,
    found,
)
from tfscale.shrink import Distill

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("two", "in_double_precision")]

DRAW = np.random.default_rng(8)
WIDTHS = {"a": 2, "b": 4}
X = {name: DRAW.normal(size=[22, width]) for name, width in WIDTHS.items()}
LAYERS = keras.layers


def reader(*names: str, kind: type = dict, seed: int = 0, **widths: int) -> keras.Model:
    """A model of the named inputs, in this order, as a dictionary or a list."""
    keras.utils.set_random_seed(seed)
    inputs = {name: keras.Input([{**WIDTHS, **widths}[name]], name=name) for name in names}
    joined = LAYERS.Concatenate()([inputs[name] for name in names])
    return keras.Model(inputs if kind is dict else [*inputs.values()], LAYERS.Dense(3)(joined))


def single(*shape: int | None, **of_input: Any) -> keras.Model:
    inputs = keras.Input(shape, name="a", **of_input)
    x = LAYERS.Flatten()(inputs) if None not in shape else LAYERS.GlobalMaxPooling1D()(inputs)
    x = x if x.dtype == "float64" else keras.ops.cast(x, "float64")
    return keras.Model(inputs, LAYERS.Dense(3)(x))


def of_words(built_by: Any, **of_input: Any) -> keras.Model:
    inputs = [keras.Input((5,), **of_input)] if of_input else []
    last = [LAYERS.Flatten(), LAYERS.Dense(3)]
    model = keras.Sequential([*inputs, LAYERS.Embedding(9, 4), *last])
    built_by(model)
    return model


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))


def test_inputs_are_found_by_name_in_every_teacher() -> None:
    student = reader("a", "b")
    teachers = [reader("b", "a", seed=1), reader("b", "a", kind=list, seed=2)]
    model = Distill(student, teachers, temperature=1.0, weight=1.0)
    model.compile("sgd")
    shown = model.evaluate(X, np.zeros(22), batch_size=22, verbose=0, return_dict=True)
    ours, expected = log_softmax(student(X).numpy()), 0.0
    for teacher in teachers:
        kernel, bias = teacher.get_weights()
        theirs = log_softmax(np.concatenate([X["b"], X["a"]], axis=1) @ kernel + bias)
        expected += 0.5 * np.mean(np.sum(np.exp(theirs) * (theirs - ours), axis=-1))
    np.testing.assert_allclose(shown["distillation_loss"], expected, rtol=1e-9)


def nested(strategy: tf.distribute.Strategy) -> Found:
    teachers = [reader("b", "a", seed=1), reader("b", "a", kind=list, seed=2)]
    with strategy.scope():
        model = Distill(reader("a", "b", seed=3), teachers, teacher_weights=[1, 3])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    classes = np.arange(22) % 3
    return found(model, model.fit(X, classes, 7, epochs=2, shuffle=False, verbose=0))


@pytest.mark.thorough
def test_replicas_distil_several_inputs_as_one_device_does(two: tf.distribute.Strategy) -> None:
    assert_like_one_device(nested, two)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        pytest.param(lambda: single(6), lambda: single(6, 1), id="a last axis of 1"),
        pytest.param(lambda: single(None, 6), lambda: single(8, 6), id="any length"),
        pytest.param(lambda: single(6, dtype="uint8"), lambda: single(6), id="integers as floats"),
        pytest.param(lambda: reader("a", "b"), lambda: single(2), id="one of a dictionary"),
        pytest.param(lambda: single(6, dtype="bool"), lambda: single(6), id="truth as floats"),
        pytest.param(
            lambda: of_words(lambda model: model.build((None, 5))),
            lambda: of_words(lambda model: None, dtype="int32"),
            id="integers that an embedding reads",
        ),
        pytest.param(
            lambda: of_words(lambda model: model(np.ones([4, 5], "int32"))),
            lambda: of_words(lambda model: model(np.ones([7, 5], "int32"))),
            id="models that batches of other sizes built",
        ),
    ],
)
def test_what_keras_makes_fit_is_accepted(student: Any, teacher: Any) -> None:
    assert Distill(student(), teacher()).built


@pytest.mark.parametrize(
    ("student", "teacher", "received"),
    [
        (
            lambda: single(6),
            lambda: single(9),
            r"teacher '.*' with \(None, 9\) float64, student '.*' with \(None, 6\) float64",
        ),
        (lambda: single(6), lambda: single(6, 2), r"with \(None, 6, 2\) float64, student"),
        (lambda: single(6), lambda: single(6, dtype="int32"), r"\(None, 6\) int32, student"),
        (
            lambda: reader("a", "b"),
            lambda: reader("a", "c", c=4),
            r"a dictionary of a: \(None, 2\) float64, c: \(None, 4\) float64, student",
        ),
        (lambda: reader("a", "b"), lambda: reader("a"), "a dictionary of a: .*, student"),
        (lambda: reader("a", "b"), lambda: reader("a", "b", b=5), r"b: \(None, 5\) float64, st"),
        (lambda: reader("a", "b"), lambda: reader("a", "c", kind=list, c=4), "0: .*, 1: .*, stud"),
        (lambda: reader("a", "b", kind=list), lambda: reader("a", "b"), "a dictionary of .*, stu"),
        (
            lambda: reader("a", "b", kind=list),
            lambda: reader("b", "a", kind=list),
            r"0: \(None, 4\) float64, 1: \(None, 2\) float64, student",
        ),
    ],
)
def test_inputs_of_a_teacher_that_do_not_fit_are_refused(
    student: Any, teacher: Any, received: str
) -> None:
    fitting, other = student(), teacher()
    with pytest.raises(ValueError, match=f"read the inputs of the student.*{received}.*`change`"):
        Distill(fitting, [fitting, other])
