"""Pipelines in half precision against stock Keras on one device, which takes the same microbatches.

What is rounded is the same: activations and their gradients in half precision, also where they
cross a cut; gradients of weights, and sums of them over microbatches and stages, in float32. So a
model whose tensors have at most two uses is equal bit for bit, but for float32 where a weight has
several. The half-precision gradients of three uses are added up in another order.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.parity.microbatches import microbatch_step
from tests.unit.strategies.keras_support.beside_one_device import Found, found
from tfscale.parallel import Pipeline

pytestmark = pytest.mark.own_process

layers = keras.layers
DRAW = np.random.default_rng(7)
MICROBATCHES, STEPS, ROWS = 4, 8, 16
FEATURES = DRAW.normal(size=(STEPS * ROWS, 5, 8))
TOKENS = DRAW.integers(0, 12, size=(STEPS * ROWS, 5))
NEXT = DRAW.integers(0, 12, size=(STEPS * ROWS, 5))
HALVES = ["mixed_bfloat16", "mixed_float16"]
STAGES = {2: ["norm_b"], 4: ["down_a", "norm_b", "down_b"]}


@pytest.fixture(autouse=True, scope="module")
def _same_kernels() -> Iterator[None]:
    """Without fusion, which rounds once where several operations round, and ends at a cut."""
    strategies.mirrored_strategy(1, devices_per_replica=4)  # TensorFlow makes its CPUs once
    tf.config.optimizer.set_experimental_options({"remapping": False})
    keras.config.set_floatx("float32")
    yield
    keras.config.set_dtype_policy("float32")


def blocks(x: Any, has_three_uses: bool = False) -> Any:
    """Two blocks with connections around them, over every cut."""
    first = x
    for name in "ab":
        inner = layers.LayerNormalization(name=f"norm_{name}")(x)
        inner = layers.Dense(16, "gelu", name=f"up_{name}")(inner)
        x = layers.add([x, layers.Dense(8, name=f"down_{name}")(inner)], name=f"sum_{name}")
    return layers.LayerNormalization(name="last")(
        layers.add([x, first], name="around") if has_three_uses else x
    )


def of_features(has_three_uses: bool = False) -> Any:
    features = keras.Input([5, 8])
    x = blocks(layers.Dense(8, "tanh", name="first")(features), has_three_uses)
    return keras.Model(features, layers.Dense(12, dtype="float32", name="head")(x))


def tied() -> Any:
    tokens = keras.Input([5], dtype="int32")
    embedding = layers.ReversibleEmbedding(12, 8, name="embedding")
    logits = embedding(blocks(embedding(tokens)), reverse=True)
    return keras.Model(tokens, layers.Activation("linear", dtype="float32", name="wide")(logits))


def trained(
    policy: str,
    build: Any,
    stages: int = 0,
    schedule: str = "1f1b",
    first_scale: float = 2.0**22,  # overflows
) -> Found:
    """Trains a pipeline, or with `stages` 0 stock Keras."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(11)
    keras.config.set_dtype_policy(policy)
    is_pipeline = stages > 0
    strategy = (
        strategies.mirrored_strategy(1, devices_per_replica=stages)
        if is_pipeline
        else tf.distribute.get_strategy()
    )
    with strategy.scope():
        model = build()
        optimizer: Any = keras.optimizers.SGD(0.1, momentum=0.9)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(
                optimizer, initial_scale=first_scale, dynamic_growth_steps=2
            )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=False)
    if is_pipeline:
        Pipeline(model, STAGES[stages], MICROBATCHES, schedule=schedule)
    else:
        model.train_step = types.MethodType(microbatch_step(MICROBATCHES), model)
    x = TOKENS if build is tied else FEATURES
    model.fit(x, NEXT, batch_size=ROWS, shuffle=False, verbose=0)
    more = {}
    if policy == "mixed_float16":
        scaling: Any = model.optimizer
        more = {"scale": scaling.dynamic_scale.numpy(), "good": scaling.step_counter.numpy()}
        more["updates"] = scaling.inner_optimizer.iterations.numpy()
    return found(model, **more)


@functools.cache
def on_one_device(policy: str, build: Any) -> Found:
    return trained(policy, build)


@pytest.mark.thorough
@pytest.mark.parametrize("policy", HALVES)
@pytest.mark.parametrize(("stages", "schedule"), [(2, "gpipe"), (4, "1f1b")])
def test_half_precision_is_rounded_as_on_one_device(
    policy: str, stages: int, schedule: str
) -> None:
    expected = on_one_device(policy, of_features)
    shown = trained(policy, of_features, stages, schedule)
    for name, value in expected.items():
        np.testing.assert_array_equal(shown[name], value, err_msg=name)
    assert 0 < shown.get("updates", 1) < STEPS, "some steps overflow, and are left out"


@pytest.mark.parametrize(
    ("policy", "stages"),
    [
        ("mixed_bfloat16", 4),
        pytest.param("mixed_bfloat16", 2, marks=pytest.mark.thorough),
        pytest.param("mixed_float16", 2, marks=pytest.mark.thorough),
        pytest.param("mixed_float16", 4, marks=pytest.mark.thorough),
    ],
)
def test_gradients_of_a_tied_weight_are_added_up_in_float32(policy: str, stages: int) -> None:
    """The rows of a table are, in another order."""
    expected = on_one_device(policy, tied)
    for name, value in trained(policy, tied, stages).items():
        # Less than a rounding of half precision, 4e-3 or 5e-4 of a weight of 1.
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.thorough
@pytest.mark.parametrize("policy", HALVES)
def test_three_uses_of_a_tensor_are_rounded_in_another_order_and_not_more(policy: str) -> None:
    """Both are as far from float32, and as far from each other."""
    three = functools.partial(of_features, has_three_uses=True)
    exact, stock = trained("float32", three), trained(policy, three, first_scale=2.0**10)
    shown = trained(policy, three, 4, first_scale=2.0**10)
    weights = [name for name in exact if name.startswith("weight")]

    def distance(one: Found, other: Found) -> float:
        return float(np.sqrt(sum(np.sum((one[name] - other[name]) ** 2) for name in weights)))

    rounding = distance(stock, exact)
    assert 0 < distance(shown, exact) <= 1.5 * rounding
    assert distance(shown, stock) <= 1.5 * rounding
