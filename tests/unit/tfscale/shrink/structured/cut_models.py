"""Small models of each family, with weights drawn so that no channel is without effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

L = keras.layers


def plain_cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(6, 3, padding="same", use_bias=False, name="first"),
            L.BatchNormalization(),
            L.ReLU(),
            L.MaxPooling2D(),
            L.Conv2D(8, 3, activation="sigmoid", name="second"),
            L.BatchNormalization(scale=False),
            L.Flatten(),
            L.Dropout(0.4),
            L.Dense(12, "relu", name="hidden"),
            L.Dense(3, name="classes"),
        ]
    )


def residual() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(8, 3, padding="same", name="stem")(inputs)
    for block in ("one", "two"):
        y = L.Conv2D(6, 3, padding="same", name=f"{block}_in")(x)
        y = L.ReLU()(L.BatchNormalization()(y))
        y = L.BatchNormalization()(L.Conv2D(8, 3, padding="same", name=f"{block}_out")(y))
        x = L.Activation("gelu")(L.Add()([x, y]))
    outputs = L.Dense(3)(L.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


def inception() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(5, 1, activation="relu", name="stem")(inputs)
    parts = [
        L.Conv2D(4, 1, name="one")(x),
        L.Conv2D(6, 3, padding="same", name="three")(x),
        L.AveragePooling2D(3, 1, padding="same")(x),
    ]
    x = L.BatchNormalization()(L.Concatenate()(parts))
    x = L.Conv2D(7, 3, activation="tanh", name="after")(x)
    x = L.Flatten()(L.Concatenate()([x, L.Cropping2D(1)(inputs)]))
    return keras.Model(inputs, L.Dense(3)(x))


def separable() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, padding="same", name="stem")(inputs)
    x = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu6")(x)
    x = L.Conv2D(24, 3, groups=12, padding="same", name="one_by_one")(x)
    x = L.SeparableConv2D(8, 3, depth_multiplier=3, name="separable")(x)
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    gate = L.Conv2D(3, 1, activation="relu", name="squeeze")(gate)
    gate = L.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    x = L.UpSampling2D()(L.PReLU(shared_axes=[1, 2])(L.Multiply()([x, gate])))
    x = L.Conv2DTranspose(5, 3, strides=2, name="transposed")(x)
    return keras.Model(inputs, L.Dense(3)(L.GlobalMaxPooling2D()(x)))


def shared() -> keras.Model:
    left, right = keras.Input((5,), name="left"), keras.Input((5,), name="right")
    tower = keras.Sequential([keras.Input((7,)), L.Dense(9, "relu"), L.Dense(6)], name="tower")
    first = L.Dense(7, "tanh", name="first")
    again = L.Dense(6, "elu", name="again")
    a, b = tower(first(left)), tower(first(right))
    outputs = L.Dense(2)(L.Maximum()([again(again(a)), b]))
    return keras.Model({"left": left, "right": right}, {"answer": outputs})


def transformer() -> keras.Model:
    tokens = keras.Input((6,), dtype="int32")
    x = L.Embedding(11, 8)(tokens)
    h = L.LayerNormalization()(x)
    h = L.MultiHeadAttention(4, 3, value_dim=5, name="attention")(h, h, use_causal_mask=True)
    x = x + L.Dropout(0.1)(h)
    h = L.Dense(10, "gelu", name="up")(L.LayerNormalization()(x))
    h = L.EinsumDense("abc,cd->abd", (None, 9), "silu", bias_axes="d", name="middle")(h)
    x = x + L.Dense(8, name="down")(h)
    scores, attended = x, L.MultiHeadAttention(2, 4, output_shape=6, name="pool")(x, x[:, :1])
    x = L.Concatenate()([attended, L.RMSNormalization()(scores)])
    return keras.Model(tokens, L.Dense(11, "softmax")(keras.ops.mean(x, axis=1)))


def flattened() -> keras.Model:
    inputs = keras.Input((4, 6))
    x = L.Conv1D(5, 3, padding="causal", name="sequence")(inputs)
    x = L.Reshape((2, 2, -1))(L.Permute((2, 1))(L.Permute((2, 1))(x)))
    x = L.Conv2D(6, 2, padding="same", name="image")(x)
    x = L.Reshape((4, 6))(x)
    x = L.Flatten()(x)
    x = L.Dense(9, "relu", name="one")(x)
    x = L.BatchNormalization()(L.Dense(8, "relu", name="two")(x))
    return keras.Model(inputs, [L.Dense(2)(x), L.Dense(1)(x)])


def inner_models() -> keras.Model:
    """A model in a model in a model, whose inputs are cut; one layer is used inside and outside."""
    scale = L.Dense(6, "softplus", name="scale")
    deep_in = keras.Input((4, 6))
    deep = keras.Model(deep_in, scale(L.Dense(6, name="deep")(deep_in)), name="deepest")
    block_in = keras.Input((4, 6))
    block = keras.Model(block_in, [deep(block_in), L.Conv1D(3, 2)(block_in)], name="block")
    inputs = keras.Input((4, 5))
    one, other = block(scale(L.Dense(6, name="before")(inputs)))
    x = L.Dense(7, "relu")(L.Flatten()(L.Subtract()([one, one * 2])))
    y = L.GlobalAveragePooling1D()(other)
    return keras.Model(inputs, L.Dense(2)(L.Concatenate()([x, y])))


FAMILIES: dict[str, Callable[[], keras.Model]] = {
    function.__name__: function
    for function in (
        *(plain_cnn, residual, inception, separable, shared, transformer, flattened),
        inner_models,
    )
}


def with_drawn_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    """Returns the model with all weights drawn, so that also biases and statistics matter."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name == "moving_variance":
            weight.assign(draw.uniform(0.5, 2.0, weight.shape))
        else:
            size = np.prod(weight.shape[:-1] or (4,))
            weight.assign(draw.normal(size=weight.shape) / np.sqrt(size) + (weight.name == "gamma"))
    return model


def batch_for(model: keras.Model, rows: int = 5) -> Any:
    """Returns a drawn batch in the structure of the model's inputs."""
    draw = np.random.default_rng(1)

    def values(tensor: Any) -> Any:
        shape = (rows, *tensor.shape[1:])
        if "int" in tensor.dtype:
            return draw.integers(0, 11, shape).astype(tensor.dtype)
        return draw.normal(size=shape).astype(tensor.dtype)

    if isinstance(model, keras.Sequential):
        return values(model.inputs[0])
    return keras.tree.map_structure(values, model.input)


def outputs_of(model: keras.Model, batch: Any) -> Any:
    """Returns all outputs, in one row for each example, float64."""
    outputs = [np.asarray(o, np.float64) for o in keras.tree.flatten(model(batch, training=False))]
    return np.concatenate([o.reshape(len(o), -1) for o in outputs], axis=1)
