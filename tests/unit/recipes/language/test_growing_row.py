"""Logits of a row that grows, against whole rows of the same model in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from recipes.language.growing_row import GrowingRow
from recipes.language.model import language_model
from recipes.language.sampling import sampled_text
from recipes.language.sizes import ModelSize
from recipes.language.vocabulary import ByteVocabulary

CONTEXT = 6
TOKENS = np.random.default_rng(1).integers(0, 256, 20).tolist()


@pytest.fixture(scope="module")
def model() -> Iterator[keras.Model]:
    """Weights are larger than at the start, so that every part changes the logits."""
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    built = language_model(ModelSize(layers=2, width=12, heads=2), num_tokens=256, seed=0)
    random = np.random.default_rng(0)
    built.set_weights([random.normal(0.1, 0.5, array.shape) for array in built.get_weights()])
    yield built
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)


def whole(model: Any, tokens: list[int]) -> np.ndarray[Any, Any]:
    """The logits after the last of these tokens."""
    row = np.array([tokens], np.int32)
    places = np.arange(len(tokens), dtype=np.int32)[None]
    inputs = {"tokens": row, "positions": places, "segment_ids": np.ones_like(row)}
    return np.asarray(np.asarray(model(inputs))[0, -1])


@pytest.mark.parametrize("prompt", [1, pytest.param(3, marks=pytest.mark.thorough), CONTEXT])
def test_logits_are_those_of_the_whole_row(model: keras.Model, prompt: int) -> None:
    row = GrowingRow(model, CONTEXT)
    for first in (0, 5):  # the second row replaces the first one
        tokens = TOKENS[first : first + prompt]
        logits = row.begin(tokens)
        while True:
            np.testing.assert_allclose(logits, whole(model, tokens), rtol=0, atol=1e-12)
            if row.is_full:
                break
            tokens = TOKENS[first : first + len(tokens) + 1]
            logits = row.append(tokens[-1])
        assert len(tokens) == CONTEXT


@pytest.mark.parametrize(
    ("context", "prompt"),
    [
        (5, b"abcdefghijkl"),
        pytest.param(8, b"ab", marks=pytest.mark.thorough),
        pytest.param(8, b"", marks=pytest.mark.thorough),
        pytest.param(1, b"a", marks=pytest.mark.thorough),
    ],
)
def test_a_full_row_goes_on_with_its_last_half(
    model: keras.Model, context: int, prompt: bytes
) -> None:
    tokens = [0, *prompt]
    window = tokens[-context:]
    for _ in range(20):
        tokens.append(int(whole(model, window).argmax()))
        is_full = len(window) == context
        window = tokens[-max(1, context // 2) :] if is_full else [*window, tokens[-1]]
    found = sampled_text(
        model,
        ByteVocabulary(),
        prompt=prompt,
        length=20,
        context=context,
        temperature=0.0,
        seed=0,
    )
    assert found == bytes(tokens[1:])


def test_a_row_longer_than_the_context_is_refused(model: keras.Model) -> None:
    row = GrowingRow(model, 2)
    with pytest.raises(ValueError, match="`append` must follow `begin`"):
        row.append(1)
    with pytest.raises(ValueError, match="`tokens` must be 1 to 2"):
        row.begin([1, 2, 3])
    row.begin([1])
    row.append(2)
    with pytest.raises(ValueError, match=r"must have less than 2 tokens.*a row of 2"):
        row.append(3)
