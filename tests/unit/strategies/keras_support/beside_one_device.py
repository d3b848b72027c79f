"""The same program under one of our strategies and with stock Keras on one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.stock_keras import batches_counted_once

Found = dict[str, np.ndarray]
Program = Callable[[tf.distribute.Strategy], Found]

DRAW = np.random.default_rng(3)
X, Y = DRAW.normal(size=[22, 3]), DRAW.normal(size=[22, 2])
"""22 examples: in batches of eight, replica batches of 4 and 4, then 3 and 3; of seven, 4 and 3."""


def found(model: Any, history: Any = None, **more: Any) -> Found:
    """Returns the weights of a model, its history and other results of a program."""
    shown = {f"weight {i}": np.array(weight) for i, weight in enumerate(model.get_weights())}
    for name, values in (history.history if history is not None else {}).items():
        shown[f"history of {name}"] = np.array(values, "float64")
    return shown | {name: np.array(value, "float64") for name, value in more.items()}


def assert_like_one_device(
    program: Program, strategy: tf.distribute.Strategy, without: str = ""
) -> Found:
    """Runs a program twice from the same seed, and compares its results to 1e-9.

    Args:
        program: Builds and trains in `strategy.scope()`.
        strategy: One of ours.
        without: Results that are not compared: those of stock Keras on one device are wrong too.
    """
    expected = on_one_device(program)
    assert_equal(on_strategy(program, strategy), expected, without)
    return expected


def on_one_device(program: Program) -> Found:
    """Returns the results of stock Keras."""
    with batches_counted_once():
        return on_strategy(program, tf.distribute.get_strategy())


def on_strategy(program: Program, strategy: tf.distribute.Strategy) -> Found:
    """Returns the results of a program that begins with the seed of each comparison."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(11)
    return program(strategy)


def assert_equal(found: Found, expected: Found, without: str = "") -> None:
    """Compares results to 1e-9, all but those of one name."""
    assert found.keys() == expected.keys()
    for name in expected:
        if name != without:
            np.testing.assert_allclose(
                found[name], expected[name], rtol=1e-9, atol=1e-12, err_msg=name
            )
