"""A two-tower model: users and items are vectors; a good match has a large inner product."""

from __future__ import annotations

import keras
import numpy as np

from tfscale.parallel import RowUniform, ShardedEmbedding


def two_towers(
    num_users: int, num_items: int, *, embedding_dim: int, num_shards: int, seed: int
) -> keras.Model:
    """Builds a model of users and items, int32 [batch] each, to logits, [batch, 1].

        logit = <user, item> + bias of the item

    Call it in the strategy's scope.

    Args:
        num_users: Users. At least `num_shards`.
        num_items: Items. At least `num_shards`.
        embedding_dim: Elements of a vector. Positive.
        num_shards: Parts of each of the three tables. Positive.
        seed: Seed of the tables. In `[0, 2**31 - 1)`.

    Raises:
        ValueError: If an argument is out of range.

    Source: Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item
    recommendations", RecSys, figure 2; towers of one embedding each.
    """
    user = keras.Input((), dtype="int32", name="user")
    item = keras.Input((), dtype="int32", name="item")
    # Small, so that training starts near probabilities of 1/2; not 0, where gradients vanish.
    users = ShardedEmbedding(
        num_users, embedding_dim, num_shards, RowUniform(-0.1, 0.1, seed), name="users"
    )
    items = ShardedEmbedding(
        num_items, embedding_dim, num_shards, RowUniform(-0.1, 0.1, seed + 1), name="items"
    )
    biases = ShardedEmbedding(num_items, 1, num_shards, "zeros", name="biases")
    logits = keras.layers.Dot(axes=1)([users(user), items(item)])
    # Logits in float32 at least: half precision would round the loss (Keras's own advice).
    last = keras.layers.Add(dtype=keras.config.floatx())
    return keras.Model([user, item], last([logits, biases(item)]))


def all_scores(model: keras.Model) -> np.ndarray:
    """Returns the logits of all users and items, float64 [num_users, num_items].

    Args:
        model: A model from `two_towers`.
    """
    users, items, biases = (
        np.asarray(model.get_layer(name).embeddings, np.float64)
        for name in ("users", "items", "biases")
    )
    return np.asarray(users @ items.T + biases.T)


def with_plain_tables(model: keras.Model) -> keras.Model:
    """Returns a model with the same outputs, whose tables are those of `keras.layers.Embedding`.

    Args:
        model: A model from `two_towers`.
    """

    def plain(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not isinstance(layer, ShardedEmbedding):
            return type(layer).from_config(layer.get_config())
        rows, size = np.asarray(layer.embeddings).shape
        return keras.layers.Embedding(rows, size, name=layer.name)

    copy = keras.models.clone_model(model, clone_function=plain)
    for layer in model.layers:
        if isinstance(layer, ShardedEmbedding):
            copy.get_layer(layer.name).set_weights([np.asarray(layer.embeddings)])
    return copy
