"""A row of tokens that grows: only the new token is computed, with keys and values that are kept.

A key and a value depend on their token, its position and earlier tokens, so they stay as they are
while tokens are appended. A token costs one position of every matrix, instead of those of the whole
row, and attention to what is kept.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from recipes.language.block import DecoderBlock


class GrowingRow:
    """The logits after the last token of a row, which is one document.

    Args:
        model: A model of `language_model`, of one device.
        context: Most tokens of the row. Positive.
    """

    def __init__(self, model: keras.Model, context: int) -> None:
        self._context = context
        self._length = 0
        self._kept: Any = None
        self._layer = model.get_layer
        self._blocks = [layer for layer in model.layers if isinstance(layer, DecoderBlock)]
        # One graph for whole rows, and one for single tokens.
        self._computed = tf.function(self._compute, autograph=False)

    @property
    def is_full(self) -> bool:
        """Whether no token can be appended."""
        return self._length >= self._context

    def begin(self, tokens: list[int]) -> np.ndarray:
        """Replaces the row by these tokens, 1 to `context`. Returns logits, [num_tokens]."""
        if not 1 <= len(tokens) <= self._context:
            raise ValueError(
                f"`tokens` must be 1 to {self._context}, the context. Received: {len(tokens)}. "
                "Pass the last ones."
            )
        # Filled up, so that prompts of all lengths have the same graph. Places after the last token
        # are not looked at, and are replaced when the row grows.
        row = np.zeros(self._context, np.int32)
        row[: len(tokens)] = tokens
        places = np.arange(self._context, dtype=np.int32)
        block = self._blocks[0]
        of_head = block.attention_norm.scale.shape[-1] // block.heads
        empty = ops.zeros((1, self._context, block.heads, of_head), block.compute_dtype)
        self._kept = [(empty, empty) for _ in self._blocks]
        return self._with(row, places, len(tokens) - 1, length=len(tokens))

    def append(self, token: int) -> np.ndarray:
        """Appends a token. Returns logits, [num_tokens].

        Raises:
            ValueError: If the row is full, or has not begun.
        """
        if self._length == 0 or self.is_full:
            raise ValueError(
                f"`append` must follow `begin`, and the row must have less than {self._context} "
                f"tokens. Received: a row of {self._length}. Begin again with its last tokens."
            )
        place = np.array([self._length], np.int32)
        return self._with(np.array([token], np.int32), place, 0, length=self._length + 1)

    def _with(
        self, tokens: np.ndarray, places: np.ndarray, last: int, *, length: int
    ) -> np.ndarray:
        logits, self._kept = self._computed(
            tf.constant(tokens), tf.constant(places), tf.constant(last), self._kept
        )
        self._length = length
        return np.asarray(logits)

    def _compute(self, tokens: Any, places: Any, last: Any, kept: Any) -> Any:
        """Returns the logits of one of the tokens, and the keys and values of all places."""
        everywhere = ops.arange(self._context, dtype="int32")
        allowed = (places[:, None] >= everywhere[None, :])[None, None]
        is_new = ops.any(places[:, None] == everywhere[None, :], axis=0)
        states = self._layer("embedding")(tokens[None])
        rotation = self._layer("rotation")(places[None])
        kept_now = []
        for block, before in zip(self._blocks, kept, strict=True):
            states, after = block.continued(states, rotation, allowed, before, is_new)
            kept_now.append(after)
        states = self._layer("norm")(states[:, last][:, None])
        logits = self._layer("logits")(self._layer("embedding")(states, reverse=True))
        return logits[0, 0], kept_now
