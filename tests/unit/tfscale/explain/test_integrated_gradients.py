"""Integrated gradients: closed forms, completeness, and one result on 1 and 2 replicas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.explain.explained_models import cnn, mlp, rows, tokens, transformer
from tfscale.explain import Attributions, integrated_gradients

L = keras.layers

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.usefixtures("in_double_precision", "two"),
]


def linear(weights: Any, bias: Any) -> keras.Model:
    weights = np.asarray(weights, float)
    model = keras.Sequential([keras.Input(weights.shape[:1]), L.Dense(weights.shape[1])])
    model.set_weights([weights, np.asarray(bias, float)])
    return model


def gap(found: Attributions) -> float:
    assert found.gaps is not None
    assert found.scales is not None
    assert found.incomplete == []
    return float(np.abs(found.gaps / found.scales).max())


def test_a_linear_model_has_weight_times_distance() -> None:
    weights, x, baseline = rows(4, 3), rows(7, 4, seed=1), rows(4, seed=2)
    model = linear(weights, [1.0, 2.0, 3.0])
    found = integrated_gradients(model, x, target=2, baseline=baseline)
    np.testing.assert_allclose(found.attributions, weights[:, 2] * (x - baseline), atol=1e-13)
    assert found.steps is not None
    assert found.steps.tolist() == [4] * 7
    np.testing.assert_allclose(found.outputs, x @ weights[:, 2] + 3)


def test_a_product_has_the_closed_form_of_the_line() -> None:
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    model = keras.Model({"a": a, "b": b}, L.Multiply()([a, L.Multiply()([a, b])]))  # a^2 b
    given = {"a": rows(5, 1), "b": rows(5, 1, seed=1)}
    found = integrated_gradients(model, given)
    product = given["a"] ** 2 * given["b"]  # over t^3: two thirds are those of a
    np.testing.assert_allclose(found.attributions["a"], product * 2 / 3, atol=1e-12)
    np.testing.assert_allclose(found.attributions["b"], product / 3, atol=1e-12)


def test_a_kink_is_found() -> None:
    model = keras.Sequential([keras.Input((1,)), L.Dense(1, "relu"), L.Dense(1, "softplus")])
    model.set_weights([np.ones((1, 1)), np.array([-np.pi / 10]), np.ones((1, 1)), np.zeros(1)])
    found = integrated_gradients(model, np.array([[1.0], [0.2]]), tolerance=1e-6)
    expected = np.log1p(np.exp([1 - np.pi / 10, 0.0])) - np.log(2)
    np.testing.assert_allclose(found.attributions[:, 0], expected, atol=1e-7)
    assert found.steps is not None
    assert found.steps[0] > 4
    assert found.steps[1] == 4


@pytest.mark.parametrize(
    ("build", "given"),
    [
        pytest.param(mlp, rows(3, 5), id="mlp"),
        pytest.param(cnn, rows(3, 6, 6, 1), id="cnn", marks=pytest.mark.thorough),
        pytest.param(transformer, tokens(3), id="transformer", marks=pytest.mark.thorough),
    ],
)
def test_attributions_are_complete_and_equal_on_two_replicas(
    build: Callable[[tf.distribute.Strategy], keras.Model],
    given: np.ndarray,
    one: tf.distribute.Strategy,
    two: tf.distribute.Strategy,
) -> None:
    model = build(two)
    before = [np.copy(weight) for weight in model.get_weights()]
    function = model.predict_function
    found = integrated_gradients(model, given, tolerance=1e-6)
    assert gap(found) <= 1e-6
    np.testing.assert_allclose(found.outputs, model(given).numpy().max(axis=1), rtol=1e-12)
    for weight, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, was)
    assert model.predict_function is function
    alone = integrated_gradients(build(one), given, tolerance=1e-6)
    np.testing.assert_allclose(found.attributions, alone.attributions, rtol=0, atol=1e-9)
    assert found.attributions.shape == given.shape


def test_tokens_have_the_sums_of_their_embeddings() -> None:
    ids = keras.Input((3,), dtype="int32")
    embedding, dense = L.Embedding(6, 2), L.Dense(1)
    model = keras.Model(ids, dense(L.Flatten()(embedding(ids))))
    given = np.array([[1, 2, 3], [5, 5, 0]])
    found = integrated_gradients(model, given, baseline=4)
    table = embedding.get_weights()[0]
    kernel = dense.get_weights()[0].reshape(3, 2)
    expected = ((table[given] - table[4]) * kernel).sum(axis=-1)
    np.testing.assert_allclose(found.attributions, expected, atol=1e-13)


def test_numbers_and_tokens_are_explained_together() -> None:
    number, ids = keras.Input((2,)), keras.Input((1,), dtype="int64")
    embedding = L.Embedding(4, 3)
    both = L.Concatenate()([number, L.Flatten()(embedding(ids)), L.Flatten()(embedding(ids))])
    dense = L.Dense(1)
    model = keras.Model([number, ids], dense(both))
    given = [rows(4, 2), np.array([[0], [1], [2], [3]])]
    found = integrated_gradients(model, given)
    kernel = dense.get_weights()[0][:, 0]
    table = embedding.get_weights()[0]
    np.testing.assert_allclose(found.attributions[0], given[0] * kernel[:2], atol=1e-13)
    moved = (table[given[1][:, 0]] - table[0]) @ (kernel[2:5] + kernel[5:])
    np.testing.assert_allclose(found.attributions[1][:, 0], moved, atol=1e-13)


def test_too_few_steps_are_told_by_row(tmp_path: Path, one: tf.distribute.Strategy) -> None:
    given = rows(4, 5)
    found = integrated_gradients(mlp(one), given, most_steps=8, tolerance=1e-6)
    assert found.gaps is not None
    assert found.scales is not None
    assert found.steps is not None
    wide = np.flatnonzero(np.abs(found.gaps) > 1e-6 * found.scales)
    assert found.incomplete == wide.tolist() != []
    assert found.steps.max() <= 8
    found.to_html(tmp_path / "page.html")
    assert "do not add up" in (tmp_path / "page.html").read_text("utf-8").replace("\n", " ")


def test_the_number_that_is_explained_is_chosen_by_index() -> None:
    weights = rows(3, 4)
    model = keras.Sequential([keras.Input((3,)), L.Dense(4), L.Reshape((2, 2))])
    model.set_weights([weights, np.zeros(4)])
    given = rows(2, 3, seed=3)
    found = integrated_gradients(model, given, target=(1, 0))
    np.testing.assert_allclose(found.attributions, given * weights[:, 2], atol=1e-13)
    by_row = integrated_gradients(model, given, target=[(0, 0), (1, 1)])
    np.testing.assert_allclose(by_row.attributions, given * weights[:, [0, 3]].T, atol=1e-13)
    with pytest.raises(ValueError, match=r"`target` is required for an output of shape \(2, 2\)"):
        integrated_gradients(model, given)


X = rows(2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": np.zeros((0, 3))}, r"`inputs` must have at least one row.*\{'x': 0\}"),
        (
            {"inputs": np.array([[0, 1, 2], [3, np.nan, 5]])},
            r"`inputs` must be finite.*row 1 of input",
        ),
        ({"inputs": np.array([["a", "b", "c"]])}, r"text in input 'x'.*TextVectorization"),
        ({"target": 4}, r"`target` must be an integer in \[0, 4\).*target=4"),
        ({"target": -1}, r"`target` must be an integer in \[0, 4\).*target=-1"),
        ({"target": "cat"}, r"`target` must be.*'cat'"),
        ({"target": [0, 1, 2]}, r"`target` must have an index for each of 2 rows.*3 of them"),
        ({"output": "other"}, r"`output` must be one of.*'other'"),
        ({"baseline": np.zeros(4)}, r"`baseline` must be.*shape \(4,\)"),
        ({"baseline": float("nan")}, r"`baseline` must be a finite number.*nan"),
        ({"baseline": {"y": 0}}, r"`baseline` must.*structure of `inputs`"),
        ({"steps": 1}, r"`steps` must be .*steps=1"),
        ({"most_steps": 5}, r"`most_steps` must be .*most_steps=5"),
        ({"tolerance": 0}, r"`tolerance` must be a number above 0.*tolerance=0"),
        ({"batch_size": 3}, r"`batch_size` must be .*batch_size=3"),
        ({"model": "model.keras"}, r"`model` must be a keras.Model.*str"),
        ({"model": keras.Sequential([L.Dense(2)])}, r"`model` must be built"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    model = keras.Sequential([keras.Input((3,), name="x"), L.Dense(4)])
    with pytest.raises(ValueError, match=message):
        integrated_gradients(**({"model": model, "inputs": X} | arguments))


def test_integers_without_an_embedding_are_refused() -> None:
    ids = keras.Input((1,), dtype="int32")
    model = keras.Model(ids, L.Dense(1)(L.CategoryEncoding(4)(ids)))
    with pytest.raises(ValueError, match=r"reaches no Embedding.*`occlusion`"):
        integrated_gradients(model, np.array([[1]]))


def test_an_output_that_is_not_finite_is_refused() -> None:
    model = keras.Sequential([keras.Input((1,)), L.Lambda(keras.ops.log)])
    with pytest.raises(ValueError, match=r"`model` must have finite outputs.*row 0"):
        integrated_gradients(model, np.ones((1, 1)))


def test_several_outputs_need_a_name() -> None:
    x = keras.Input((2,))
    model = keras.Model(x, {"a": L.Dense(1)(x), "b": L.Dense(2)(x)})
    with pytest.raises(ValueError, match=r"`output` is required.*a, b"):
        integrated_gradients(model, np.ones((1, 2)))
    found = integrated_gradients(model, np.ones((1, 2)), output="b", target=1)
    np.testing.assert_allclose(found.outputs, model(np.ones((1, 2)))["b"][:, 1])
