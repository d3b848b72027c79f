"""The examples of docs/howto/training_step.md, run on one device and on two replicas."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
    found,
)

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

PAGE = Path(tfscale.__file__).parents[1] / "docs" / "howto" / "training_step.md"


def examples() -> dict[str, str]:
    """Returns the blocks of code of the page, by what they define or by their first line."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    names = [re.match(r"(?:class|def) (\w+)", block) for block in blocks]
    return {name[1]: block for name, block in zip(names, blocks, strict=True) if name}


def sequential(*parts: Any, **arguments: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), *parts])
    model.add(keras.layers.Dense(2))
    model.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": "mse", **arguments})
    return model


def stepping(step: type[keras.Model]) -> keras.Model:
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    model = step(inputs, keras.layers.Dense(2)(hidden))
    loss = None if step.__name__ == "Contrastive" else "mse"
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def on_graphs() -> keras.Model:
    nodes, adjacency = keras.Input((3,), name="nodes"), keras.Input((3,), name="adjacency")
    mixed = keras.layers.Lambda(lambda parts: tf.matmul(parts[0], parts[1]))([nodes, adjacency])
    model = keras.Model({"nodes": nodes, "adjacency": adjacency}, keras.layers.Dense(2)(mixed))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


USES: dict[str, Callable[[Any], keras.Model]] = {
    "Detector": stepping,
    "Contrastive": stepping,
    "root_mean_squared_error": lambda loss: sequential(loss=loss),
    "Clipped": stepping,
    "Careful": stepping,
    "Parts": stepping,
    "RunningMean": lambda layer: sequential(layer()),
    "Usage": lambda layer: sequential(layer()),
    "Longest": lambda metric: sequential(metrics=[metric()]),
    "LastError": lambda metric: sequential(metrics=[metric()]),
    "with_adjacency": lambda _: on_graphs(),
}
ADJACENCY = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.0]])
TARGETS = {"Contrastive": 0.1 * X}
UNLIKE = dict.fromkeys(("Detector", "Contrastive", "Careful", "Parts"), "history of loss")
"""Stock Keras shows 0 for a step's own loss on one device too (S13)."""


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    """Of 22 examples in batches of 7 the replicas have 3 and 4, and at last 0 and 1."""
    return strategies.mirrored_strategy(2)


def test_every_example_of_the_page_is_run() -> None:
    assert examples().keys() == USES.keys()


@pytest.mark.parametrize("name", USES)
def test_an_example_matches_one_device(strategy: tf.distribute.Strategy, name: str) -> None:
    names: dict[str, Any] = {"keras": keras, "tf": tf, "tfscale": tfscale}
    exec(examples()[name], names)

    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = USES[name](names[name])
        data = tf.data.Dataset.from_tensor_slices((X, TARGETS.get(name, Y))).batch(7)
        if name == "with_adjacency":
            data = names[name](data, tf.constant(ADJACENCY))
        return found(model, model.fit(data, epochs=2, verbose=0))

    assert_like_one_device(program, strategy, without=UNLIKE.get(name, ""))
