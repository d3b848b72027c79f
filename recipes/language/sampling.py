"""Text that a model continues, token by token."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from recipes.language.vocabulary import START, Vocabulary, decoded


def sampled_text(
    model: keras.Model,
    vocabulary: Vocabulary,
    *,
    prompt: bytes,
    length: int,
    context: int,
    temperature: float,
    seed: int,
) -> bytes:
    """Continues a text with tokens drawn from the model.

    Token k is drawn with probability `softmax(logits / temperature)[k]`; at temperature 0 the most
    probable token is taken. The model sees the last `context` tokens.

    Args:
        model: A model of `language_model`, of one device.
        vocabulary: Its vocabulary.
        prompt: How the text begins; may be empty.
        length: Tokens to draw. Positive.
        context: The context that the model was trained with. Positive.
        temperature: Not negative. Below 1 the text has fewer surprises.
        seed: Seed of the draws. The same seed, model and device give the same text.

    Returns:
        The prompt and what was drawn.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    tokens = [vocabulary.pieces.index(START), *vocabulary.encode([prompt])[0].tolist()]
    positions = tf.range(context)[None]

    @tf.function(autograph=False)
    def logits_at(seen: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        # Places after `last` are padding, which the model does not look at.
        rows = {"tokens": seen, "positions": positions, "segment_ids": tf.ones_like(seen)}
        return model(rows, training=False)[0, last]

    for _ in range(length):
        window = tokens[-context:]
        seen = np.zeros((1, context), np.int32)
        seen[0, : len(window)] = window
        logits = logits_at(tf.constant(seen), tf.constant(len(window) - 1))
        tokens.append(drawn(logits.numpy(), temperature, random))
    return decoded(vocabulary, tokens[1:])


def drawn(logits: np.ndarray, temperature: float, random: np.random.Generator) -> int:
    """Draws a token.

    Args:
        logits: [num_tokens].
        temperature: See `sampled_text`.
        random: Where the draw comes from.
    """
    wide = logits.astype(np.float64)
    if temperature == 0:
        return int(np.argmax(wide))
    scaled = (wide - wide.max()) / temperature
    cumulative = np.cumsum(np.exp(scaled))
    place = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
    return min(int(place), len(wide) - 1)  # the product may be rounded up to the sum
