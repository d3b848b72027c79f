"""Random models: what is cut computes what is masked, whatever layers follow each other."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.unit.tfscale.shrink.structured.cut_models import (
    batch_for,
    outputs_of,
    with_drawn_weights,
)
from tfscale.shrink import channel_groups, cut, mask_channels

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]
L = keras.layers
ACTIVATIONS = ("relu", "sigmoid", "gelu", "tanh", "leaky_relu", "softmax", "linear")


class Drawn:
    """Draws a model whose tensors have 6x6 positions, and later a row of values."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._shared: dict[int, Any] = {}

    def model(self) -> keras.Model:
        inputs = keras.Input((6, 6, 3))
        tensors = [L.Conv2D(self._count(), 1)(inputs)]
        for _ in range(self._draw.integers(3, 10)):
            tensors.append(self._image(tensors))
        rows = [self._row(x) for x in self._some(tensors, 2)]
        for _ in range(self._draw.integers(1, 6)):
            rows.append(self._dense(rows))
        outputs = [L.Dense(2)(x) for x in (rows[-1], tensors[-1])]
        if self._draw.random() < 0.2:
            outputs.append(tensors[self._draw.integers(len(tensors))])
        return keras.Model(inputs, outputs)

    def _count(self) -> int:
        return int(self._draw.integers(2, 9))

    def _one(self, values: Any) -> Any:
        return values[self._draw.integers(len(values))]

    def _some(self, values: Any, most: int) -> list[Any]:
        return [self._one(values) for _ in range(self._draw.integers(1, most + 1))]

    def _activation(self) -> str:
        return str(self._one(ACTIVATIONS))

    def _image(self, tensors: list[Any]) -> Any:
        x = self._one(tensors)
        size = x.shape[-1]
        alike = [t for t in tensors if t.shape[-1] == size]
        draw = self._draw
        kinds: list[Any] = [
            lambda: L.Conv2D(self._count(), 3, padding="same", activation=self._activation())(x),
            lambda: L.Conv2DTranspose(self._count(), 3, padding="same")(x),
            lambda: L.BatchNormalization(scale=bool(draw.integers(2)))(x),
            lambda: L.Activation(self._activation())(x),
            lambda: L.Add()([x, self._one(alike)]),
            lambda: L.Multiply()([x, self._one(alike)]),
            lambda: keras.ops.maximum(x, self._one(alike)) - 0.5 * x,
            lambda: L.Concatenate()([x, self._one(tensors), *self._some(tensors, 2)]),
            lambda: L.DepthwiseConv2D(3, padding="same", depth_multiplier=self._one((1, 2)))(x),
            lambda: L.SeparableConv2D(self._count(), 3, padding="same")(x),
            lambda: L.Conv2D(2 * size, 3, groups=size, padding="same")(x),
            lambda: L.Conv2D(4, 1, groups=2)(x) if size % 2 == 0 else x,
            lambda: L.MaxPooling2D(3, 1, padding="same")(x),
            lambda: L.PReLU(shared_axes=[1, 2])(x),
            lambda: x * L.Dense(size, "sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x)),
            lambda: x * L.Conv2D(1, 1, activation="sigmoid")(x),
            lambda: self._shared.setdefault(size, L.Conv2D(size, 1, activation="elu"))(x),
            lambda: L.LayerNormalization()(x),
            lambda: L.GroupNormalization(1)(x),
            lambda: L.Permute((2, 1, 3))(x),
            lambda: L.Reshape((6, 6, size))(L.Reshape((36, size))(x)),
            lambda: L.Dense(self._count(), self._activation())(x),
            lambda: self._attended(x),
            lambda: self._inner(size)(x),
            lambda: x[..., ::-1],
        ]
        return self._one(kinds)()

    def _attended(self, x: Any) -> Any:
        rows = L.Reshape((36, x.shape[-1]))(x)
        size = int(self._draw.integers(2, 5))
        shape = self._one((None, self._count()))
        return L.Reshape((6, 6, -1))(L.MultiHeadAttention(size, 3, output_shape=shape)(rows, rows))

    def _inner(self, size: int) -> Any:
        if -size not in self._shared:
            inputs = keras.Input((6, 6, size))
            x = L.Conv2D(self._count(), 1, activation="relu")(inputs)
            x = L.Concatenate()([x, inputs]) if self._draw.integers(2) else x
            self._shared[-size] = keras.Model(inputs, x)
        return self._shared[-size]

    def _row(self, x: Any) -> Any:
        kinds = (
            L.Flatten(),
            L.GlobalMaxPooling2D(),
            lambda t: keras.ops.mean(t, axis=(1, 2)),
            lambda t: L.Flatten()(L.Permute((3, 1, 2))(t)),
        )
        return self._one(kinds)(x)

    def _dense(self, rows: list[Any]) -> Any:
        x = self._one(rows)
        kinds: list[Any] = [
            lambda: L.Dense(self._count(), self._activation())(x),
            lambda: L.Concatenate()([x, self._one(rows)]),
            lambda: L.BatchNormalization()(x),
            lambda: L.Dropout(0.5)(x),
            lambda: L.GlobalAveragePooling1D()(L.RepeatVector(3)(x)),
            lambda: L.EinsumDense("ab,bcd->acd", (self._count(), 2), bias_axes="d")(x)[:, 0],
            lambda: L.Flatten()(
                L.EinsumDense("ab,bcd->acd", (self._count(), 3), "relu", bias_axes="c")(x)
            ),
        ]
        return self._one(kinds)()


def check(seed: int) -> bool:
    """Compares one model; tells whether something was cut."""
    keras.utils.clear_session()
    model = with_drawn_weights(Drawn(seed).model(), seed)
    groups = channel_groups(model).groups
    draw = np.random.default_rng(seed)
    fractions = {name: float(draw.uniform(0, 0.99)) for name in groups}
    if not groups or not any(mask_channels(model, fractions).values()):
        return False
    batch = batch_for(model)
    masked = outputs_of(model, batch)
    smaller = cut(model)
    assert smaller.count_params() < model.count_params()
    scale = max(1.0, np.abs(masked).max())
    np.testing.assert_allclose(
        outputs_of(smaller, batch) / scale, masked / scale, rtol=0, atol=1e-12, err_msg=f"{seed=}"
    )
    return True


def test_random_models_are_cut_without_a_difference() -> None:
    assert sum(check(seed) for seed in range(3)) >= 2


@pytest.mark.thorough
def test_many_random_models_are_cut_without_a_difference() -> None:
    assert sum(check(seed) for seed in range(3, 203)) > 120
