"""Text that a model continues, token by token."""

from __future__ import annotations

import keras
import numpy as np

from recipes.language.growing_row import GrowingRow
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
    probable token is taken. The model sees all tokens, but `context` at most: of a row that is full
    it keeps the last half, as the beginning of the next row.

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
    row = GrowingRow(model, context)
    logits = row.begin(tokens[-context:])
    for left in reversed(range(length)):
        tokens.append(drawn(logits, temperature, random))
        if left and row.is_full:
            logits = row.begin(tokens[-max(1, context // 2) :])
        elif left:
            logits = row.append(tokens[-1])
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
