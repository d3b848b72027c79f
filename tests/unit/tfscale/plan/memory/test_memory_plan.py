"""Parameters and slots by hand counts, configurations, and what is refused."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from tfscale.plan import Configuration, MemoryPlan, memory_plan
from tfscale.plan.memory.planning import Untraceable
from tfscale.plan.memory.report import as_json, as_text

pytestmark = pytest.mark.own_process

# Dense(8 -> 6) and Dense(6 -> 4): kernels of 48 and 24, biases of 6 and 4.
PARAMETERS = 48 + 6 + 24 + 4
COUNTERS = 8 + 4  # iteration, int64, and learning rate, float32


def made(optimizer: Any, *, model: Any = None, rows: int = 16) -> Callable[[], Any]:
    def build() -> Any:
        dense = keras.layers.Dense
        own = model() if model else keras.Sequential([keras.Input((8,)), dense(6), dense(4)])
        own.compile(optimizer() if callable(optimizer) else optimizer, "mse")
        return own, (np.ones((rows, 8), "float32"), np.ones((rows, 4), "float32"))

    return build


def one(build: Callable[[], Any], **arguments: Any) -> Configuration:
    chosen = {"shard": [0], "microbatches": [1], "global_batch_size": 16, **arguments}
    (found,) = memory_plan(build, **chosen).configurations
    return found


SLOTS = {
    "sgd": (lambda: optimizers.SGD(0.1), COUNTERS),
    "momentum": (lambda: optimizers.SGD(0.1, momentum=0.9), COUNTERS + 4 * PARAMETERS),
    "adam": (lambda: optimizers.Adam(), COUNTERS + 8 * PARAMETERS),
    "amsgrad": (lambda: optimizers.Adam(amsgrad=True), COUNTERS + 12 * PARAMETERS),
    "lamb": (lambda: optimizers.Lamb(), COUNTERS + 8 * PARAMETERS),
    "ema": (lambda: optimizers.SGD(0.1, use_ema=True), COUNTERS + 4 * PARAMETERS),
    "accumulation": (
        lambda: optimizers.Adam(gradient_accumulation_steps=2),
        COUNTERS + 12 * PARAMETERS,
    ),
    # Kernels: a row of 8 and one of 6, a row of 6 and one of 4; one element each for biases; beside
    # them a whole slot that Keras makes for each variable.
    "adafactor": (
        lambda: optimizers.Adafactor(),
        COUNTERS + 4 * (PARAMETERS + 8 + 6 + 6 + 4 + 4),
    ),
    # The loss scale has counters of its own: a step count, int64, and the scale, float32.
    "loss scale": (
        lambda: optimizers.LossScaleOptimizer(optimizers.Adam()),
        3 * COUNTERS + 8 * PARAMETERS,
    ),
}


@pytest.mark.parametrize("name", list(SLOTS))
def test_parameters_and_slots_are_exact(name: str) -> None:
    optimizer, expected = SLOTS[name]
    memory = one(made(optimizer)).memory
    assert (memory.parameters, memory.slots) == (4 * PARAMETERS, expected)


def test_parameters_and_slots_are_those_of_a_model_that_is_really_built() -> None:
    build = made(lambda: optimizers.Nadam())
    model, _ = build()
    model.optimizer.build(model.trainable_variables)
    expected = sum(v.value.numpy().nbytes for v in model.variables)
    slots = sum(v.value.numpy().nbytes for v in model.optimizer.variables)
    memory = one(build).memory
    assert (memory.parameters, memory.slots) == (expected, slots)


def test_replicas_divide_what_the_stage_says() -> None:
    plan = memory_plan(
        made(lambda: optimizers.Adam()), replicas=2, microbatches=[1], global_batch_size=16
    )
    assert [each.shard for each in plan.configurations] == [0, 1, 2, 3]
    memory = [each.memory for each in plan.configurations]
    assert [each.parameters for each in memory] == [4 * PARAMETERS] * 3 + [2 * PARAMETERS]
    whole = COUNTERS + 8 * PARAMETERS
    assert [each.slots for each in memory] == [whole] + [COUNTERS + 4 * PARAMETERS] * 3


def test_moving_statistics_are_parameters_that_are_never_divided() -> None:
    def model() -> Any:
        norm = keras.layers.BatchNormalization()
        return keras.Sequential([keras.Input((8,)), norm, keras.layers.Dense(4)])

    memory = one(made("sgd", model=model), replicas=2, shard=[3]).memory
    trainable, fixed = 8 + 8 + 32 + 4, 8 + 8
    assert memory.parameters == 4 * (trainable // 2 + fixed)


def test_a_model_of_ten_billion_parameters_takes_no_memory_to_plan() -> None:
    width = 50_000

    def model() -> Any:
        dense = keras.layers.Dense(width, use_bias=False)
        middle = [keras.layers.Dense(width, use_bias=False) for _ in range(4)]
        return keras.Sequential([keras.Input((8,)), dense, *middle, keras.layers.Dense(4)])

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = one(made("adam", model=model)).memory
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    elements = 8 * width + 4 * width**2 + 4 * width + 4
    assert memory.parameters == 4 * elements
    assert memory.slots == COUNTERS + 8 * elements
    assert grown < 500_000  # KiB; the model would take 120 GB


def test_half_precision_keeps_float32_variables_and_halves_activations() -> None:
    def model() -> Any:
        dense = [keras.layers.Dense(256) for _ in range(4)]
        return keras.Sequential([keras.Input((8,)), *dense, keras.layers.Dense(4)])

    plan = memory_plan(
        made("sgd", model=model, rows=4096),
        precision=["float32", "mixed_bfloat16"],
        microbatches=[1],
        global_batch_size=4096,
    )
    full, half = (each.memory for each in plan.configurations)
    assert full.parameters == half.parameters
    assert half.activations == pytest.approx(full.activations / 2, rel=0.1)
    assert keras.config.dtype_policy().name == "float32"


def test_microbatches_divide_activations_and_are_tried_as_far_as_they_divide() -> None:
    def model() -> Any:
        dense = [keras.layers.Dense(64, "relu") for _ in range(4)]
        return keras.Sequential([keras.Input((8,)), *dense, keras.layers.Dense(4)])

    plan = memory_plan(made("sgd", model=model), replicas=2, shard=[0], global_batch_size=2200)
    assert [each.microbatches for each in plan.configurations] == [1, 2, 4]
    first, second = (each.memory.activations for each in plan.configurations[:2])
    assert second == pytest.approx(first / 2, rel=0.02)


def tight_plan(limit: int | None) -> MemoryPlan:
    def model() -> Any:
        dense = [keras.layers.Dense(2048) for _ in range(6)]
        return keras.Sequential([keras.Input((8,)), *dense, keras.layers.Dense(4)])

    return memory_plan(
        made("adam", model=model),
        replicas=8,
        microbatches=[1],
        global_batch_size=16,
        memory_per_device=limit,
    )


def test_the_cheapest_that_fits_is_chosen_and_what_is_missing_is_named() -> None:
    free = tight_plan(None)
    assert free.cheapest is free.configurations[0]
    totals = [each.memory.total for each in free.configurations]
    limit = totals[0] - 1
    tight = tight_plan(limit)
    assert tight.cheapest is not None
    assert (tight.cheapest.shard, tight.configurations[0].fits) == (1, False)
    none = tight_plan(100)
    assert none.cheapest is None
    assert none.missing_bytes == min(totals) - 100
    assert "Nothing fits: the smallest, shard" in as_text("m:f", none)
    assert as_json("m:f", none)["fits"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"replicas": 0}, r"`replicas` must be a positive integer\.", id="replicas"),
        pytest.param({"shard": [4]}, r"`shard` must be an integer in \[0, 4\)", id="shard"),
        pytest.param({"shard": []}, r"`shard` must name at least one", id="no shard"),
        pytest.param({"precision": []}, r"`precision` must name at least", id="no precision"),
        pytest.param({"recompute": []}, r"`recompute` must name at least", id="no layers"),
        pytest.param(
            {"pipeline_stages": [2], "pipeline_schedule": []},
            r"`pipeline_schedule` must name at least one",
            id="no order",
        ),
        pytest.param({"precision": ["half"]}, r"`precision` must be one of as_is", id="precision"),
        pytest.param(
            {"replicas": 3}, r"multiple of the 3 replicas\. Received: .*=16\. Use 18\.", id="batch"
        ),
        pytest.param(
            {"pipeline_stages": [2], "tensor_parallel": [2]},
            r"`pipeline_stages` must be 1 with `tensor_parallel`",
            id="both",
        ),
        pytest.param({"pipeline_stages": [3]}, r"`model` must have at least 3 parts", id="stages"),
        pytest.param(
            {"pipeline_schedule": ["gpipe"]}, r"`pipeline_stages` must be more than 1", id="order"
        ),
        pytest.param(
            {"pipeline_stages": [2], "pipeline_virtual_stages": 2},
            r"`virtual_stages` must be 1 unless `schedule` is 'interleaved'",
            id="virtual stages",
        ),
        pytest.param(
            {
                **{"pipeline_stages": [2], "pipeline_schedule": ["interleaved"]},
                **{"microbatches": [1]},
            },
            r"`microbatches` must be a multiple of 2, the number of stages",
            id="interleaved",
        ),
        pytest.param(
            {"pipeline_stages": [2], "workers": 2, "replicas": 2},
            r"`workers` must be 1 with pipeline_stages",
            id="workers",
        ),
        pytest.param(
            {"tensor_parallel": [2], "shard": [1], "replicas": 2},
            r"`shard` must be 0 with tensor_parallel",
            id="shard",
        ),
        pytest.param({"tensor_parallel": [2]}, r"`rules` must match", id="rules"),
        pytest.param(
            {"microbatches": [3]}, r"`microbatches` must divide the 16 examples", id="microbatches"
        ),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        memory_plan(made("sgd"), **{"global_batch_size": 16, **arguments})


def test_a_function_that_returns_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`build` must return `\(model, data\)`"):
        memory_plan(lambda: 1)  # type: ignore[arg-type, return-value]


def test_a_function_that_computes_is_told_that_there_are_no_values() -> None:
    def build() -> Any:
        model, data = made("sgd", model=lambda: keras.Sequential([keras.layers.Dense(5000)]))()
        model.predict(np.ones((1, 8)), verbose=0)
        return model, data

    with pytest.raises(ValueError, match=r"`build` must not compute with the model, because large"):
        one(build)


class OwnUpdate(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        x, _ = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self(x) ** 2)
        for variable, gradient in zip(
            self.trainable_variables,
            tape.gradient(loss, self.trainable_variables),
            strict=True,
        ):
            variable.assign_sub(gradient)
        return {"loss": loss}


class Broken(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x if x.shape[0] != 4 else tf.reshape(x, [7, 7])


def test_a_step_without_the_optimizer_is_refused() -> None:
    def model() -> Any:
        return OwnUpdate([keras.Input((8,)), keras.layers.Dense(4)])

    with pytest.raises(ValueError, match=r"Received: a step of OwnUpdate that does not\."):
        one(made("sgd", model=model))


def test_a_step_that_cannot_be_traced_is_reported() -> None:
    def model() -> Any:
        return keras.Sequential([keras.Input((8,)), Broken(), keras.layers.Dense(4)])

    with pytest.raises(Untraceable, match=r"a step of 4 examples cannot be traced"):
        one(made("sgd", model=model), global_batch_size=4)


class Turns(keras.layers.Layer):
    """Repeats as often as the data say."""

    def call(self, x: Any) -> Any:
        number = tf.cast(tf.reduce_max(x), tf.int32)
        return tf.while_loop(lambda i, _: i < number, lambda i, y: (i + 1, tf.tanh(y)), (0, x))[1]


def test_loops_whose_turns_are_not_known_are_noted() -> None:
    def model(layer: Any) -> Any:
        dense = [keras.layers.Dense(8), layer, keras.layers.Flatten(), keras.layers.Dense(4)]
        return keras.Sequential([keras.Input((8,)), *dense])

    def notes(layer: Any) -> tuple[str, ...]:
        build = made("sgd", model=lambda: model(layer))
        return memory_plan(build, microbatches=[1], global_batch_size=16).notes

    assert any("1 loops whose number of turns" in note for note in notes(Turns()))
    assert notes(keras.layers.Reshape((8, 1))) == ()
