"""Occlusion: closed forms of linear models, windows counted by hand, and two replicas."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.explain.explained_models import mlp, rows
from tfscale.explain import occlusion

L = keras.layers

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.usefixtures("in_double_precision", "two"),
]


def linear(*shape: int) -> tuple[keras.Model, np.ndarray]:
    model = keras.Sequential([keras.Input(shape, name="x"), L.Flatten(), L.Dense(1)])
    weights = rows(int(np.prod(shape)), 1, seed=5)
    model.set_weights([weights, np.ones(1)])
    return model, weights.reshape(shape)


def test_a_linear_model_has_weight_times_value() -> None:
    model, weights = linear(4)
    x = rows(5, 4)
    found = occlusion(model, x, fill=np.array([0, 0, 2.0, 0]))
    np.testing.assert_allclose(found.attributions, weights * (x - [0, 0, 2.0, 0]), atol=1e-12)
    assert (found.gaps, found.incomplete) == (None, [])


def test_windows_that_overlap_are_averaged_and_the_last_is_cut() -> None:
    model, weights = linear(5)
    x = rows(2, 5)
    found = occlusion(model, x, window=2, stride=1)
    part = weights * x
    pairs = part[:, :-1] + part[:, 1:]
    expected = np.stack(
        [
            pairs[:, 0],
            *((pairs[:, k - 1] + pairs[:, k]) / 2 for k in (1, 2, 3)),
            pairs[:, 3],
        ],
        axis=1,
    )
    np.testing.assert_allclose(found.attributions, expected, atol=1e-12)
    cut = occlusion(model, x, window=3).attributions
    np.testing.assert_allclose(cut[:, 3], part[:, 3:].sum(axis=1), atol=1e-12)


def test_a_window_of_an_image_covers_all_channels() -> None:
    model, weights = linear(4, 4, 2)
    x = rows(1, 4, 4, 2)
    found = occlusion(model, x, window=2)
    blocks = (weights * x).reshape(1, 2, 2, 2, 2, 2).sum(axis=(2, 4, 5))
    expected = np.repeat(np.repeat(blocks, 2, axis=1), 2, axis=2)[..., None]
    np.testing.assert_allclose(found.attributions, np.broadcast_to(expected, x.shape), atol=1e-12)
    assert found.steps is not None
    assert found.steps.tolist() == [4]


def test_two_replicas_find_the_same(
    one: tf.distribute.Strategy, two: tf.distribute.Strategy
) -> None:
    x = rows(5, 5)
    both, alone = (occlusion(mlp(each), x, batch_size=8) for each in (two, one))
    np.testing.assert_allclose(both.attributions, alone.attributions, rtol=0, atol=1e-9)


def test_integers_need_no_embedding() -> None:
    ids = keras.Input((2,), dtype="int32")
    model = keras.Model(ids, L.Dense(1)(L.CategoryEncoding(4, output_mode="count")(ids)))
    kernel = model.layers[-1].get_weights()[0][:, 0]
    found = occlusion(model, np.array([[1, 2]]), fill=3)
    np.testing.assert_allclose(found.attributions, [kernel[[1, 2]] - kernel[3]], atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, r"`window` must be .*window=0"),
        ({"window": (1, 2)}, r"`window` must have at most 1 sizes.*window=\(1, 2\)"),
        ({"window": {"y": 1}}, r"`window` must have a size for each input: x.*y"),
        ({"window": 2, "stride": 3}, r"`stride` must be at most `window`.*stride=\(3,\)"),
        ({"fill": "grey"}, r"`fill` must be a finite number.*'grey'"),
        ({"target": 1}, r"`target` must be an integer in \[0, 1\).*target=1"),
        ({"batch_size": 0}, r"`batch_size` must be .*batch_size=0"),
        ({"inputs": np.zeros((0, 4))}, r"`inputs` must have at least one row"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    model, _ = linear(4)
    with pytest.raises(ValueError, match=message):
        occlusion(**({"model": model, "inputs": np.zeros((1, 4))} | arguments))
