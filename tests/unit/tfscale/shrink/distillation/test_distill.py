"""A student that learns from teachers: the loss in NumPy, and N replicas beside one device."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import assert_like_one_device
from tests.unit.tfscale.shrink.distillation.distilled_training import (
    CLASSES,
    LAYERS,
    PAIRS,
    TEACHERS,
    X,
    network,
    trained,
)
from tfscale.shrink import Distill, FeaturePair

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.thorough)])
def strategy(request: pytest.FixtureRequest) -> tf.distribute.Strategy:
    strategies.mirrored_strategy(3)  # TensorFlow must have all three before it starts
    return strategies.mirrored_strategy(request.param)


@pytest.mark.parametrize(
    ("batch_size", "weighted"),
    [
        pytest.param(7, True, id="weighted, and at last one row, so that replicas have none"),
        pytest.param(8, False, id="uneven batches", marks=pytest.mark.thorough),
    ],
)
def test_replicas_distil_as_one_device_does(
    strategy: tf.distribute.Strategy, batch_size: int, weighted: bool
) -> None:
    assert_like_one_device(lambda on: trained(on, batch_size, weighted), strategy)


@pytest.mark.thorough
def test_without_labels_replicas_distil_as_one_device_does(
    strategy: tf.distribute.Strategy,
) -> None:
    assert_like_one_device(lambda on: trained(on, weight=1.0), strategy)


@pytest.mark.thorough
@pytest.mark.parametrize("shard", [2, 3])
def test_sharded_replicas_distil_as_one_device_does(
    strategy: tf.distribute.Strategy, shard: int
) -> None:
    sharded = strategies.mirrored_strategy(strategy.num_replicas_in_sync, shard=shard)
    assert_like_one_device(lambda on: trained(on, 7), sharded)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def in_numpy(model: Distill, teachers: list[keras.Model], weight: float, heat: float) -> float:
    """The loss of the class's formula, from outputs that Keras computes."""
    inner = [each.get_layer("inner")(X).numpy() for each in (model.student, *teachers)]
    logits = [each(X).numpy() for each in (model.student, *teachers)]
    hard = -np.mean(log_softmax(logits[0])[np.arange(22), CLASSES])
    kernel = model.student.get_layer("inner").kernel.numpy()
    ours, soft = log_softmax(logits[0] / heat), 0.0
    for share, each in zip((0.25, 0.75), logits[1:], strict=True):
        theirs = log_softmax(each / heat)
        soft += share * heat**2 * np.mean(np.sum(np.exp(theirs) * (theirs - ours), axis=-1))
    projections = [each.numpy() for each in model.trainable_variables if "projection" in each.path]
    squares = 0.3 * np.mean((inner[0] @ projections[0] - inner[1]) ** 2)
    squares += 0.2 * np.mean((inner[0] @ projections[1] - logits[2]) ** 2)
    return float((1 - weight) * hard + weight * soft + squares + 0.01 * np.sum(kernel**2))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_the_formula_in_numpy(weight: float) -> None:
    teachers = [network(*each) for each in TEACHERS]
    model = Distill(
        network(5, 3),
        teachers,
        temperature=3.0,
        weight=weight,
        teacher_weights=[1, 3],
        features=PAIRS,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", None if weight == 1 else loss)
    expected = in_numpy(model, teachers, weight, 3.0)
    np.testing.assert_allclose(model.evaluate(X, CLASSES, batch_size=22, verbose=0)[0], expected)


def test_probabilities_are_distilled_like_the_logits_they_come_from() -> None:
    def history(from_logits: bool) -> list[float]:
        last = {} if from_logits else {"activation": "softmax"}
        model = Distill(network(5, 3, **last), network(9, 1, **last), from_logits=from_logits)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits))
        losses: list[float] = model.fit(X, CLASSES, verbose=0, shuffle=False).history["loss"]
        return losses

    np.testing.assert_allclose(history(False), history(True), rtol=1e-7)


def test_teachers_are_copies_that_never_change_and_leave_their_originals_alone() -> None:
    teacher = network(9, 1)
    before = [each.copy() for each in teacher.get_weights()]
    model = Distill(network(5, 3), teacher, weight=1.0)
    model.compile("sgd")
    student = [each.copy() for each in model.student.get_weights()]
    model.fit(X, CLASSES, epochs=2, verbose=0)
    for copied, own, old in zip(
        model.teachers[0].get_weights(), teacher.get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(copied, old)
        np.testing.assert_array_equal(own, old)
    assert teacher.trainable
    assert not model.teachers[0].trainable_variables
    changed = zip(model.student.get_weights(), student, strict=True)
    assert all((new != old).any() for new, old in changed)


def test_a_student_comes_nearer_to_its_teacher() -> None:
    model = Distill(network(9, 3), network(9, 1), weight=1.0)
    model.compile(keras.optimizers.Adam(0.03))
    before = model.evaluate(X, CLASSES, verbose=0, return_dict=True)["distillation_loss"]
    model.fit(np.tile(X, [100, 1]), np.tile(CLASSES, 100), batch_size=22, verbose=0)
    after = model.evaluate(X, CLASSES, verbose=0, return_dict=True)["distillation_loss"]
    assert after < 0.5 * before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be positive and finite"),
        ({"weight": 1.5}, r"`weight` must be in \[0, 1\]"),
        ({"teacher_weights": [1.0, 2.0]}, "`teacher_weights` must be 1 numbers"),
        ({"teacher_weights": [0.0]}, "not all 0"),
        ({"teachers": []}, "`teachers` must be at least one"),
        ({"features": [FeaturePair("none", "inner")]}, "layers of the student. Received: 'none'"),
        ({"features": [FeaturePair("inner", "none")]}, "layers of the teacher. Received: 'none'"),
        (
            {"features": [FeaturePair("inner", "inner", teacher_index=1)]},
            "below the number of teachers, 1",
        ),
        (
            {"teachers": lambda: network(4, 0, activation="softmax")},
            "ends with softmax. Pass from_logits=False",
        ),
        (
            {"teachers": lambda: keras.Sequential([keras.Input([6]), LAYERS.Dense(4)])},
            r"of the student's shape, \(None, 3\). Received: \(None, 4\)",
        ),
        ({"teachers": None}, "`teachers` must be a Keras model, or several in a list"),
        ({"teachers": [None]}, "`teachers` must be a Keras model, or several in a list"),
        ({"teacher_weights": ["all"]}, "`teacher_weights` must be 1 numbers"),
        ({"teacher_weights": 1.0}, "`teacher_weights` must be 1 numbers"),
        ({"features": FeaturePair("inner", "inner")}, "`features` must be a list of FeaturePair"),
        ({"features": [("inner", "inner")]}, "`features` must be a list of FeaturePair"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    arguments = {"teachers": lambda: network(9, 1), **options}
    if callable(arguments["teachers"]):  # TensorFlow must not start when tests are collected
        arguments["teachers"] = arguments["teachers"]()
    with pytest.raises(ValueError, match=message):
        Distill(network(5, 3), **arguments)


def test_masked_positions_of_a_sequence_are_refused_until_they_have_weights() -> None:
    layers = [keras.Input([4]), LAYERS.Embedding(5, 2, mask_zero=True), LAYERS.Dense(3)]
    student = keras.Sequential(layers)
    with pytest.raises(ValueError, match="sample_weight of 0 for them"):
        Distill(student, student)
    layers[2:] = [LAYERS.GlobalAveragePooling1D(), LAYERS.Dense(3)]
    assert Distill(keras.Sequential(layers), keras.Sequential(layers)).built


def test_it_is_refused_outside_of_the_students_scope(strategy: tf.distribute.Strategy) -> None:
    with strategy.scope():
        student = network(5, 3)
    with pytest.raises(ValueError, match="the scope that its student was made in"):
        Distill(student, network(9, 1))


@pytest.mark.parametrize(("name", "value"), [("weight", -1.0), ("teacher_index", -1)])
def test_wrong_pairs_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        FeaturePair("inner", "inner", **{name: value})  # type: ignore[arg-type]
