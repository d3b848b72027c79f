"""Rows of packed documents, from which every token of the text is predicted exactly once.

A document is the start token and its tokens. It is cut into pieces of `context + 1` tokens, each of
which begins with the last token of the one before. The first token of a piece is only an input, and
the others are predicted. Short pieces share a row, and do not see each other.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfscale
from recipes.language.vocabulary import START, Vocabulary
from tfscale.data import RandomAccessSource


def packed_rows(
    documents: list[bytes], vocabulary: Vocabulary, *, context: int, seed: int
) -> RandomAccessSource:
    """Returns rows of `context + 1` tokens as a source, see `tfscale.data.packed`.

    Args:
        documents: The documents, at least one of them not empty.
        vocabulary: Turns them into tokens.
        context: Tokens that the model sees at most. Positive.
        seed: Seed of the packing.
    """
    pieces = overlapping_pieces(
        vocabulary.encode(documents), vocabulary.pieces.index(START), context
    )
    return tfscale.data.packed({"tokens": pieces}, length=context + 1, seed=seed)


def overlapping_pieces(documents: list[np.ndarray], start: int, context: int) -> tf.RaggedTensor:
    """Cuts documents into pieces that overlap by one token.

    Args:
        documents: The tokens of each document, integers [n].
        start: The token that begins each of them.
        context: Tokens of a piece that are predicted. Positive.

    Returns:
        int32 [pieces, 2 to context + 1].

    Example:
        >>> overlapping_pieces([np.array([5, 6, 7])], start=0, context=2).to_list()
        [[0, 5, 6], [6, 7]]
    """
    sizes = np.array([len(document) + 1 for document in documents])
    flat = np.full(sizes.sum(), start, np.int32)
    is_start = np.zeros(len(flat), bool)
    is_start[np.cumsum(sizes) - sizes] = True
    flat[~is_start] = np.concatenate(documents)
    counts = -(-(sizes - 1) // context)  # pieces of each document
    document = np.repeat(np.arange(len(sizes)), counts)
    number = _counted(counts)
    begin = (np.cumsum(sizes) - sizes)[document] + number * context
    length = np.minimum(sizes[document] - number * context, context + 1)
    taken = np.repeat(begin, length) + _counted(length)
    with tf.device("CPU:0"):
        return tf.RaggedTensor.from_row_lengths(flat[taken], length)


def shifted(batch: Any) -> Any:
    """Turns packed rows into inputs, the tokens to predict, and their weights.

    Args:
        batch: A batch of `packed_rows`.

    Returns:
        A dict of int32 [batch, context]; int32 [batch, context]; floats [batch, context], 1 where
        the token is the next one of the same piece, else 0.
    """
    tokens, segments = batch["tokens"], batch["segment_ids"]
    inputs = {
        "tokens": tokens[:, :-1],
        "positions": batch["positions"][:, :-1],
        "segment_ids": segments[:, :-1],
    }
    is_next = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    return inputs, tokens[:, 1:], tf.cast(is_next, keras.config.floatx())


def _counted(counts: np.ndarray) -> np.ndarray:
    """Returns 0, 1, ... for each count, one after the other."""
    before = np.cumsum(counts) - counts
    return np.asarray(np.arange(counts.sum()) - np.repeat(before, counts))
