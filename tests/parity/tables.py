"""Tables whose rows are looked up by ids; one device adds up gradients of equal ids or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tests.parity.configuration import Configuration
from tests.parity.examples import OUTPUTS, SPARSE_FEATURES, TIME, VOCABULARY

layers, ops = keras.layers, keras.ops
WIDTH = 4


class Positions(keras.Layer):
    """Adds the table row of its position to each token."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)  # from its config too
        self.table = layers.Embedding(TIME, WIDTH)

    def build(self, shape: Any) -> None:
        self.table.build()

    def call(self, x: Any) -> Any:
        return x + self.table(ops.arange(TIME))


class LearnedPositions(keras.Layer):
    """The same from a plain weight, longer than a row."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(TIME + 2, WIDTH), initializer="uniform")

    def call(self, x: Any) -> Any:
        return x + ops.take(self.table, ops.arange(TIME), axis=0)


class TwoLookups(keras.Layer):
    """Looks up each token and its mirror image in one table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = layers.Embedding(VOCABULARY, WIDTH)

    def build(self, shape: Any) -> None:
        self.table.build()

    def call(self, tokens: Any) -> Any:
        return ops.tanh(self.table(tokens)) * self.table(tokens[:, ::-1])


class TokensAndPositions(TwoLookups):
    """Looks up ids of the batch and constant ids in one table."""

    def call(self, tokens: Any) -> Any:
        return self.table(tokens) * ops.tanh(self.table(ops.arange(TIME)))


class UniqueLookup(TwoLookups):
    """Looks up each distinct id of a batch once."""

    def call(self, tokens: Any) -> Any:
        ids, places = tf.unique(tf.reshape(tokens, [-1]))
        rows = tf.gather(self.table(ids), places)
        return tf.reshape(rows, [-1, TIME, WIDTH])


def _embedded(after: Callable[[], keras.Layer]) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((TIME,), dtype="int32"),
            layers.Embedding(VOCABULARY, WIDTH),
            after(),
            layers.Flatten(),
            layers.Dense(OUTPUTS),
        ]
    )


def _looked_up(lookup: Callable[[], keras.Layer]) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((TIME,), dtype="int32"),
            lookup(),
            layers.Flatten(),
            layers.Dense(OUTPUTS),
        ]
    )


def _sparse_input() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((SPARSE_FEATURES,), sparse=True),
            layers.Dense(7, activation="tanh"),
            layers.Dense(OUTPUTS),
        ]
    )


def _closed_vocabulary() -> keras.Model:
    words = [str(word) for word in range(VOCABULARY)]
    return keras.Sequential(
        [
            keras.Input((TIME,), dtype="string"),
            layers.StringLookup(vocabulary=words, num_oov_indices=0),
            layers.Embedding(VOCABULARY, WIDTH),
            layers.GlobalAveragePooling1D(),
            layers.Dense(OUTPUTS),
        ]
    )


def _of(build: Callable[[], keras.Model]) -> Callable[[Configuration], keras.Model]:
    return lambda _: build()


BUILDERS: dict[str, Callable[[Configuration], keras.Model]] = {
    "sparse_input": _of(_sparse_input),
    "positions": _of(lambda: _embedded(Positions)),
    "learned_positions": _of(lambda: _embedded(LearnedPositions)),
    "two_lookups": _of(lambda: _looked_up(TwoLookups)),
    "tokens_and_positions": _of(lambda: _looked_up(TokensAndPositions)),
    "unique_lookup": _of(lambda: _looked_up(UniqueLookup)),
    "closed_vocabulary": _of(_closed_vocabulary),
}
