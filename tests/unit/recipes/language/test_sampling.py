from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recipes.language.model import language_model
from recipes.language.sampling import drawn, sampled_text
from recipes.language.sizes import ModelSize
from recipes.language.vocabulary import ByteVocabulary


def text(model: Any, **changed: Any) -> bytes:
    arguments = {"prompt": b"ab", "length": 12, "context": 8, "temperature": 1.0, "seed": 0}
    return sampled_text(model, ByteVocabulary(), **{**arguments, **changed})


def test_the_same_seed_gives_the_same_text() -> None:
    model = language_model(ModelSize(layers=1, width=16, heads=2), num_tokens=256, seed=0)
    assert text(model) == text(model)
    assert text(model) != text(model, seed=1)
    assert text(model, temperature=0.0) == text(model, temperature=0.0, seed=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_at_the_temperature(temperature: float) -> None:
    logits = np.array([0.0, 1.0, -1.0, 2.0])
    random = np.random.Generator(np.random.PCG64(0))
    found = np.bincount([drawn(logits, temperature, random) for _ in range(20_000)], minlength=4)
    powers = np.exp(logits / temperature)
    # Standard error of a share: at most sqrt(0.25 / 20000) = 0.0035.
    np.testing.assert_allclose(found / 20_000, powers / powers.sum(), atol=0.015)


def test_large_logits_are_drawn_without_overflow() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    assert drawn(np.array([1e4, 0.0], np.float32), 0.01, random) == 0
    assert drawn(np.array([-1e30, 0.0], np.float32), 1.0, random) == 1
