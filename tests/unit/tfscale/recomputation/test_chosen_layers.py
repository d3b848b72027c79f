"""Choosing the layers to recompute, by name, class, path and budget."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.programs import completed

WIDTH, ROWS = 8, 64


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.one_device_strategy("CPU:0")


def block(i: int) -> keras.Model:
    layers = [keras.layers.Dense(4 * WIDTH, "relu", name="up"), keras.layers.Dense(WIDTH)]
    return keras.Sequential([keras.Input([WIDTH]), *layers], name=f"block_{i}")


def stack() -> keras.Model:
    blocks = [block(i) for i in range(3)]
    return keras.Sequential([keras.Input([WIDTH]), *blocks, keras.layers.Dense(1)], name="stack")


@pytest.fixture
def model(strategy: tf.distribute.Strategy) -> keras.Model:
    with strategy.scope():
        return stack()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (r"block_[02]", ["block_0", "block_2"]),
        (["block_1", "block_2"], ["block_1", "block_2"]),
        (r".*block_1/up", ["block_1/up"]),
        (keras.Sequential, ["block_0", "block_1", "block_2"]),
        ([r"block_1", "up"], ["block_0/up", "block_1", "block_2/up"]),
        ((), []),
    ],
)
def test_layers_are_found_by_name_path_and_class(
    layers: Any, expected: list[str], model: keras.Model
) -> None:
    assert tfscale.recompute(model, layers) == expected


def test_a_choice_replaces_the_one_before(model: keras.Model) -> None:
    tfscale.recompute(model, "block_0")
    tfscale.recompute(model, model.layers[1])
    assert [layer._remat_mode is not None for layer in model.layers[:3]] == [False, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "blok"}, "must match layers of the model. Received: 'blok'.*block_0"),
        ({"layers": "("}, "must be regular expressions"),
        ({}, "Exactly one of `layers` and `memory_budget`"),
        ({"layers": "up", "memory_budget": 9}, "Exactly one of `layers` and `memory_budget`"),
        ({"memory_budget": "1MB"}, "`inputs` must be given"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], message: str, model: keras.Model
) -> None:
    with pytest.raises(ValueError, match=message):
        tfscale.recompute(model, **arguments)


def test_a_model_outside_of_a_scope_is_refused() -> None:
    outside = stack()
    with pytest.raises(ValueError, match="must be built in the scope"):
        tfscale.recompute(outside, "block_0")


def test_a_budget_counts_what_dense_layers_keep(model: keras.Model) -> None:
    """Each Dense keeps its input; relu's output, which the next Dense keeps, serves relu too."""
    inputs = tf.TensorSpec([ROWS, WIDTH])
    row = 4 * ROWS
    kept = row * 3 * (WIDTH + 4 * WIDTH) + row * WIDTH - row * WIDTH  # inputs are given, not made
    assert tfscale.recompute(model, memory_budget=kept, inputs=inputs) == []
    assert tfscale.recompute(model, memory_budget=kept - 1, inputs=inputs) != []
    with pytest.raises(ValueError, match="must be at least what recomputation can reach"):
        tfscale.recompute(model, memory_budget=row * WIDTH, inputs=inputs)


def test_prepare_recomputes_the_copy(strategy: tf.distribute.Strategy) -> None:
    model = stack()
    model.compile("sgd", "mse")
    prepared = tfscale.prepare(model, strategy, precision="float32", recompute="block_1")
    x = np.ones([8, WIDTH], np.float32)
    prepared.fit(x, x[:, :1], batch_size=8, verbose=0)
    assert [layer._remat_mode is not None for layer in prepared.layers[:3]] == [False, True, False]
    assert model.layers[1]._remat_mode is None
    again = tfscale.prepare(prepared, strategy, precision="float32")
    assert again.layers[1]._remat_mode is not None


MEMORY = """
import json, sys
import numpy as np, tensorflow as tf, keras, strategies, tfscale
strategy = strategies.mirrored_strategy(int(sys.argv[1]))
layers, rows, width = int(sys.argv[2]), 2048, 64
def block(i):
    parts = [keras.layers.Dense(4 * width, "gelu"), keras.layers.Dense(width)]
    return keras.Sequential([keras.Input([width]), *parts], name=f"block_{i}")
peaks = {}
for chosen in ("block_.*", ()):
    with strategy.scope():
        blocks = [block(i) for i in range(layers)]
        model = keras.Sequential([keras.Input([width]), *blocks, keras.layers.Dense(1)])
        model.compile("sgd", "mse", steps_per_execution=1)
        tfscale.recompute(model, chosen)
    x = np.ones([2 * rows, width], "float32")
    model.fit(x, x[:, :1], batch_size=rows, epochs=1, shuffle=False, verbose=0)
    peak = tf.config.experimental.get_memory_info("CPU:0")["peak"]
    peaks["recomputed" if chosen else "kept"] = peak
print(json.dumps(peaks))
"""


@pytest.mark.parametrize(
    ("replicas", "layers", "part"),
    [
        (1, 10, 0.3),
        pytest.param(1, 24, 0.25, marks=pytest.mark.thorough),
        pytest.param(2, 24, 0.25, marks=pytest.mark.thorough),
    ],
)
def test_the_peak_of_many_layers_falls(replicas: int, layers: int, part: float) -> None:
    """A block makes two tensors of 4 * width and one of width that the backward pass reads.

    So of 10 recomputed blocks 10 + 9 of 90 widths are there at most.
    """
    arguments = ("-c", MEMORY, str(replicas), str(layers))
    done = completed(*arguments, timeout=300, TF_CPU_ALLOCATOR_USE_BFC="true")
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert peaks["recomputed"] < part * peaks["kept"]
