"""Small models of several kinds, with rows for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfscale.parallel import ShardedEmbedding

Case = tuple[keras.Model, dict[str, np.ndarray]]
ROWS = 40
USERS = [f"u{number}" for number in range(30)]
ITEMS = [7 * number + 1 for number in range(20)]


def cnn() -> Case:
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dropout(0.3)(keras.layers.Flatten()(x))
    digits = keras.layers.Dense(10, activation="softmax", name="digits", dtype="float32")(x)
    return keras.Model(image, digits), {"image": random().normal(size=(ROWS, 8, 8, 1))}


def encoder() -> Case:
    keras.utils.set_random_seed(0)
    tokens = keras.Input((12,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(50, 16, mask_zero=True)(tokens)
    x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(4, 4)(x, x))
    inner = keras.layers.Dense(32, activation="gelu")(x)
    x = keras.layers.LayerNormalization()(x + keras.layers.Dense(16)(inner))
    x = keras.layers.GlobalAveragePooling1D()(x)
    rows = random().integers(0, 50, size=(ROWS, 12))
    return keras.Model(tokens, keras.layers.Dense(3, name="kind")(x)), {"tokens": rows}


def recommender(users: str = "int32", items: str = "int32") -> Case:
    """Two towers; "string" and "int64" look users and items up, some of them unknown."""
    keras.utils.set_random_seed(0)
    user = keras.Input((), dtype=users, name="user")
    item = keras.Input((), dtype=items, name="item")
    users_found = keras.layers.StringLookup(vocabulary=USERS)(user) if users == "string" else user
    items_found = keras.layers.IntegerLookup(vocabulary=ITEMS)(item) if items == "int64" else item
    towers = [
        keras.layers.Embedding(31, 8)(users_found),
        keras.layers.Embedding(21, 8)(items_found),
    ]
    rows = {
        "user": np.array([*USERS, "unknown"])[random().integers(0, 31, size=ROWS)]
        if users == "string"
        else random().integers(0, 30, size=ROWS),
        "item": np.array([*ITEMS, -5])[random().integers(0, 21, size=ROWS)]
        if items == "int64"
        else random().integers(0, 20, size=ROWS),
    }
    return keras.Model([user, item], keras.layers.Dot(1, name="score")(towers)), rows


def sharded_recommender() -> Case:
    """Both tables in three shards."""
    keras.utils.set_random_seed(0)
    user = keras.Input((), dtype="int32", name="user")
    item = keras.Input((), dtype="int32", name="item")
    towers = [
        ShardedEmbedding(30, 8, num_shards=3)(user),
        ShardedEmbedding(20, 8, num_shards=3)(item),
    ]
    rows = {
        "user": random().integers(0, 30, size=ROWS),
        "item": random().integers(0, 20, size=ROWS),
    }
    return keras.Model([user, item], keras.layers.Dot(1, name="score")(towers)), rows


def random() -> np.random.Generator:
    return np.random.default_rng(0)


KINDS: dict[str, Callable[[], Any]] = {
    "cnn": cnn,
    "encoder": encoder,
    "recommender": recommender,
    "recommender in shards": sharded_recommender,
    "recommender of strings": lambda: recommender(users="string"),
    "recommender of integers": lambda: recommender(items="int64"),
}
