"""The random state of a process, put back: the next draws are those that would have been next."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.state import random_state
from strategies.keras_support.state.random_state import RandomState
from tests.changed_release import UNKNOWN, symbols

pytestmark = pytest.mark.own_process


def draws() -> list[Any]:
    return [
        random.random(),
        np.random.normal(),
        float(tf.random.normal([])),
        float(keras.random.normal([])),
    ]


def test_all_generators_of_a_process_are_put_back() -> None:
    keras.utils.set_random_seed(1)
    draws()
    before = RandomState()
    first = draws()
    assert first != draws()
    before.restore()
    again = draws()
    # An eager operation of TensorFlow is given another seed, and keeps a count of its own.
    assert again[:2] + again[3:] == first[:2] + first[3:]


def test_another_release_is_refused_by_the_names_of_what_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = tuple(
        dataclasses.replace(symbol, accepted=tuple(UNKNOWN))
        if symbol.need is Need.FINDERS
        else symbol
        for symbol in KERAS_SYMBOLS
    )
    monkeypatch.setattr(random_state, "KERAS_SYMBOLS", changed)
    with pytest.raises(RuntimeError, match="for find_learning_rate") as refusal:
        RandomState()
    assert all(name in str(refusal.value) for name in symbols(Need.FINDERS)[:1])
