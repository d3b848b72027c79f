"""What each device of a replica stores, as planned and as a real `Pipeline` or division has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import strategies
from recipes.language.model import compile_for_training, language_model
from recipes.language.sizes import ModelSize
from strategies.extension import devices_by_replica
from tests.unit.tfscale.plan.memory.measured_step import bytes_on_devices
from tests.unit.tfscale.plan.memory.planned_models import tied
from tfscale.parallel import TRANSFORMER, Pipeline, TensorRule, tensor_parallel
from tfscale.plan import Configuration, memory_plan

pytestmark = pytest.mark.own_process
layers = keras.layers
ROWS = 16


@pytest.fixture(autouse=True, scope="module")
def _four_devices() -> None:
    strategies.mirrored_strategy(2, devices_per_replica=2)  # TensorFlow makes its CPUs once


def compiled(model: Any, optimizer: Any) -> Any:
    model.compile(optimizer, "mse", jit_compile=False)
    return model, (np.ones((ROWS, 8), "float32"), np.ones((ROWS, 4), "float32"))


def sequential() -> Any:
    """A line of layers, of which none is as large as another."""
    dense = [layers.Dense(width, "relu", name=f"dense_{width}") for width in (48, 40, 32, 24, 16)]
    model = keras.Sequential([keras.Input((8,)), *dense, layers.Dense(4, name="head")])
    return compiled(model, keras.optimizers.Adam(use_ema=True, gradient_accumulation_steps=2))


def skipping() -> Any:
    """Connections over cuts, moving statistics, random numbers, a slot of another shape."""
    inputs = keras.Input((8,))
    x = first = layers.Dense(24, name="first")(inputs)
    for name in "abcd":
        y = layers.BatchNormalization(name=f"norm_{name}")(x)
        y = layers.Dropout(0.1, name=f"drop_{name}")(layers.Dense(24, "relu", name=name)(y))
        x = layers.Add(name=f"add_{name}")([x, y])
    outputs = layers.Dense(4, name="head")(layers.Concatenate(name="join")([x, first, inputs]))
    return compiled(keras.Model(inputs, outputs), keras.optimizers.Adafactor())


def language() -> Any:
    model = language_model(ModelSize(layers=3, width=32, heads=4), num_tokens=50, seed=0)
    compile_for_training(model, keras.optimizers.AdamW(1e-3), [4] * 50)
    tokens = np.ones((ROWS, 12), "int32")
    inputs = dict.fromkeys(("tokens", "positions", "segment_ids"), tokens)
    return model, (inputs, tokens, np.ones((ROWS, 12), "float32"))


def planned(build: Callable[[], Any], **arguments: Any) -> Configuration:
    chosen: dict[str, Any] = {"shard": [0], "microbatches": [4], "recompute": ["as_is"]}
    (found,) = memory_plan(build, global_batch_size=ROWS, **chosen | arguments).configurations
    return found


def stored(model: Any) -> list[tuple[int, int]]:
    """Returns the bytes of weights and slots on each device of the fullest replica."""
    model.optimizer.build(model.trainable_variables)
    weights, slots = bytes_on_devices(model.weights), bytes_on_devices(model.optimizer.variables)
    return [
        max(((weights[name], slots[name]) for name in of_replicas), key=sum)
        for of_replicas in zip(
            *(
                [device.rpartition("device:")[2] for device in devices]
                for devices in devices_by_replica(model.distribute_strategy)
            ),
            strict=True,
        )
    ]


def check_pipeline(
    build: Callable[[], Any],
    stages: int,
    schedule: str = "1f1b",
    virtual: int = 1,
    replicas: int = 1,
    shard: int = 0,
) -> None:
    plan = planned(
        build,
        replicas=replicas,
        shard=[shard],
        pipeline_stages=[stages],
        pipeline_schedule=[schedule],
        pipeline_virtual_stages=virtual,
        microbatches=[4],
    )
    strategy = strategies.mirrored_strategy(replicas, devices_per_replica=stages, shard=shard)
    with strategy.scope():
        model, _ = build()
        Pipeline(model, list(plan.stages), 4, schedule=schedule, virtual_stages=virtual)
        assert [(each.parameters, each.slots) for each in plan.devices] == stored(model)


def test_a_tied_embedding_is_stored_where_the_pipeline_has_it() -> None:
    check_pipeline(tied, 2)


@pytest.mark.thorough
@pytest.mark.parametrize("shard", [0, 1, 2, 3])
@pytest.mark.parametrize("build", [sequential, skipping, tied, language])
def test_stages_store_what_the_pipeline_has_there(build: Callable[[], Any], shard: int) -> None:
    check_pipeline(build, 2, replicas=2 if shard else 1, shard=shard)


@pytest.mark.thorough
@pytest.mark.parametrize("build", [sequential, skipping, language])
def test_runs_of_layers_are_stored_where_the_pipeline_has_them(build: Callable[[], Any]) -> None:
    check_pipeline(build, 2, "interleaved", virtual=2)
    check_pipeline(build, 4, "gpipe")


def partly_made() -> Any:
    """A matrix that is too large to be made for a plan, of which each part is small enough."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(256, name="wide"),
            layers.Dense(128, name="dense_48"),
            layers.Dense(4, name="dense_40"),
        ]
    )
    return compiled(model, "adam")


RULES = [TensorRule(".*dense_(48|32)", "column"), TensorRule(".*dense_(40|24)", "row")]


@pytest.mark.parametrize(
    ("build", "rules"),
    [
        pytest.param(sequential, RULES, id="sequential"),
        pytest.param(partly_made, RULES, id="parts that are made"),
        pytest.param(language, TRANSFORMER, id="language", marks=pytest.mark.thorough),
    ],
)
def test_divided_matrices_are_stored_where_they_are(build: Callable[[], Any], rules: Any) -> None:
    plan = planned(build, tensor_parallel=[2], tensor_rules=rules)
    strategy = strategies.mirrored_strategy(1, devices_per_replica=2)
    with strategy.scope():
        model, _ = build()
        tensor_parallel(model, rules)
        assert [(each.parameters, each.slots) for each in plan.devices] == stored(model)
