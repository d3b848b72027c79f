"""Permutation importance: NumPy over the same shuffles, the closed form of its mean, and groups."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.explain.explained_models import mlp, rows
from tfscale.explain import permutation_importance

L = keras.layers

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.usefixtures("in_double_precision", "two"),
]

WEIGHTS = np.array([3.0, -1.0, 0.0])
X = rows(40, 3)
Y = X @ WEIGHTS + rows(40, seed=9)


def linear() -> keras.Model:
    model = keras.Sequential([keras.Input((3,), name="x"), L.Dense(1)])
    model.set_weights([WEIGHTS[:, None], np.zeros(1)])
    return model


def by_numpy(groups: list[list[int]], repeats: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    before = np.mean((X @ WEIGHTS - Y) ** 2)
    losses = np.zeros((len(groups), repeats))
    for k, group in enumerate(groups):
        for repeat in range(repeats):
            order, changed = random.permutation(len(X)), X.copy()
            changed[:, group] = X[order][:, group]
            losses[k, repeat] = np.mean((changed @ WEIGHTS - Y) ** 2) - before
    return losses


def test_losses_are_those_of_numpy_over_the_same_shuffles() -> None:
    found = permutation_importance(
        linear(), (X, Y), metric="mean_squared_error", repeats=3, seed=7, batch_size=16
    )
    np.testing.assert_allclose(found.losses, by_numpy([[0], [1], [2]], 3, 7), atol=1e-12)
    assert found.columns == ("x[0]", "x[1]", "x[2]")
    np.testing.assert_allclose(found.score, np.mean((X @ WEIGHTS - Y) ** 2))


def test_groups_are_shuffled_together() -> None:
    found = permutation_importance(
        linear(),
        (X, Y),
        metric="mean_squared_error",
        columns=["a", "b", "c"],
        groups={"ab": ["a", "b"]},
        repeats=2,
    )
    assert found.columns == ("ab", "c")
    np.testing.assert_allclose(found.losses, by_numpy([[0, 1], [2]], 2, 0), atol=1e-12)


@pytest.mark.thorough
def test_the_mean_is_the_closed_form() -> None:
    """Over all shuffles a loss is 2 cov(w x, r), with r what w x is compared with."""
    found = permutation_importance(
        linear(), (X, Y), metric="mean_squared_error", repeats=400, seed=1
    )
    for k, weight in enumerate(WEIGHTS):
        part = weight * X[:, k]
        rest = Y - (X @ WEIGHTS - part)
        expected = 2 * np.mean((part - part.mean()) * rest)
        deviation = found.deviations[k] / np.sqrt(400)
        assert abs(found.means[k] - expected) <= 4 * deviation + 1e-12


def test_accuracy_is_worse_where_it_is_smaller_and_two_replicas_agree(
    one: tf.distribute.Strategy, two: tf.distribute.Strategy
) -> None:
    x = rows(21, 5)
    classes = mlp(one).predict(x, verbose=0).argmax(axis=1)
    both, alone = (
        permutation_importance(mlp(each), (x, classes), metric="accuracy", repeats=2)
        for each in (two, one)
    )
    assert (both.score, both.losses.min() >= 0, both.losses.max() > 0) == (1.0, True, True)
    np.testing.assert_array_equal(both.losses, alone.losses)


def test_a_function_is_a_metric_and_strings_are_columns() -> None:
    number, word = keras.Input((1,), name="number"), keras.Input((1,), dtype="string", name="word")
    looked_up = L.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(word)
    model = keras.Model({"number": number, "word": word}, L.Dense(1)(looked_up) + 0 * number)
    x = {"number": rows(6, 1), "word": np.array([["a"], ["b"]] * 3)}
    y = model({name: tf.constant(each) for name, each in x.items()}).numpy()
    found = permutation_importance(
        model,
        (x, y),
        metric=lambda true, outputs: -np.abs(true - outputs).max(),
        larger_is_better=True,
    )
    assert found.columns == ("number", "word")
    assert found.means[0] == 0 < found.means[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "auc"}, r"`metric` must be one of accuracy.*metric='auc'"),
        ({"metric": np.mean}, r"`larger_is_better` is required"),
        ({"larger_is_better": True}, r"`larger_is_better` must be left out"),
        ({"metric": "accuracy"}, r"`data` must have a class in \[0, 2\)"),
        ({"data": X}, r"`data` must be \(x, y\).*ndarray"),
        ({"data": (X, Y[:3])}, r"`data` must have a true value for each of 40 rows.*\(3,\)"),
        ({"columns": ["a", "b"]}, r"`columns` must be 3 different names.*\['a', 'b'\]"),
        ({"groups": {"g": ["z"]}}, r"`groups` must have lists of columns.*Take out 'z'"),
        ({"groups": {"g": "x[0]"}}, r"`groups` must have lists of columns.*'x\[0\]'"),
        ({"repeats": 0}, r"`repeats` must be .*repeats=0"),
        ({"seed": -1}, r"`seed` must be .*seed=-1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    given = {"model": linear(), "data": (X, Y), "metric": "mean_squared_error"}
    with pytest.raises(ValueError, match=message):
        permutation_importance(**(given | arguments))
