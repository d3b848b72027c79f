"""What a pipeline refuses, where it cuts a model by itself, and what it reports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tfscale.callbacks import LocalUpdates, Microbatches
from tfscale.parallel import Pipeline, TensorRule, tensor_parallel
from tfscale.report import Stages

pytestmark = pytest.mark.own_process
layers = keras.layers


@pytest.fixture(autouse=True, scope="module")
def two() -> tf.distribute.Strategy:
    strategies.mirrored_strategy(2, devices_per_replica=2)  # TensorFlow makes its CPUs once
    return strategies.mirrored_strategy(1, devices_per_replica=2)


def line(strategy: tf.distribute.Strategy, **compiling: Any) -> Any:
    with strategy.scope():
        names = ("a", "b", "c")
        model = keras.Sequential([keras.Input([2]), *(layers.Dense(2, name=n) for n in names)])
        model.compile("sgd", "mse", **compiling)
    return model


def fit(model: Any, **more: Any) -> Any:
    return model.fit(np.ones((8, 2)), np.ones((8, 2)), verbose=0, **more)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"microbatches": 0}, "`microbatches` must be a positive integer"),
        ({"schedule": "zigzag"}, "`schedule` must be one of gpipe, 1f1b, interleaved"),
        ({"virtual_stages": 2}, "`virtual_stages` must be 1 unless"),
        (
            {"schedule": "interleaved", "microbatches": 3},
            "`microbatches` must be a multiple of 2.*microbatches=3. Pass 4",
        ),
        ({"stages": 3}, "`stages` must be 2, the devices of a replica. Received: stages=3"),
        ({"stages": 1}, "`stages` must be 2.*stages=1. Pass 2, or a list of names"),
        ({"stages": "b"}, "stages='b'. Pass 2, or a list of names such as"),
        ({"stages": ["b", "c"]}, "`stages` must name 1 layers"),
        ({"stages": ["d"]}, "`stages` must be names.*Received: 'd'. Choose from a, b, c"),
        ({"stages": ["a"]}, "'a': the first stage begins there"),
        (
            {"schedule": "interleaved", "virtual_stages": 2, "microbatches": 2},
            "`model` must have at least 4 parts.*3 operations, and 2 places",
        ),
        pytest.param(
            {"example": np.zeros((0, 4))}, "`example` must have at least one row", id="no rows"
        ),
    ],
)
def test_impossible_arguments_are_refused(
    two: tf.distribute.Strategy, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Pipeline(line(two), **arguments)


def test_models_that_cannot_be_pipelines_are_refused(two: tf.distribute.Strategy) -> None:
    class Own(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    with two.scope():
        own = Own()
        unbuilt = keras.Sequential([layers.Dense(1)])
    for model in (own, unbuilt):
        with pytest.raises(ValueError, match="`model` must be a Functional or a built Sequential"):
            Pipeline(model)
    with pytest.raises(ValueError, match="must be built and compiled under a tfscale strategy"):
        Pipeline(line(tf.distribute.get_strategy()))
    with pytest.raises(ValueError, match="whose replicas have a device for each stage"):
        Pipeline(line(strategies.mirrored_strategy(1)))


def test_only_the_strategy_of_a_model_makes_it_a_pipeline(two: tf.distribute.Strategy) -> None:
    outside, inside = line(tf.distribute.get_strategy()), line(two)
    with two.scope(), pytest.raises(ValueError, match="must be made inside `strategy"):
        Pipeline(outside)
    with (
        strategies.mirrored_strategy(1).scope(),
        pytest.raises(ValueError, match="must be in the scope of its own strategy, or in none"),
    ):
        Pipeline(inside)
    with two.scope():
        tensor_parallel(inside, [TensorRule("(.*/)?a", "column")])
    with pytest.raises(ValueError, match="must not be divided by tensor_parallel and a pipeline"):
        Pipeline(inside)


@pytest.mark.parametrize(
    ("compiling", "fitting", "message"),
    [
        ({"jit_compile": True}, {}, "`jit_compile` must be False for a pipeline"),
        ({}, {"callbacks": [Microbatches(2)]}, "`Microbatches` must be left out"),
    ],
)
def test_what_a_pipeline_cannot_train_with_is_refused(
    two: tf.distribute.Strategy, compiling: dict[str, Any], fitting: dict[str, Any], message: str
) -> None:
    model = line(two, **compiling)
    Pipeline(model, ["b"])
    with pytest.raises(ValueError, match=message):
        fit(model, **fitting)


@pytest.mark.thorough
def test_replicas_of_a_pipeline_do_not_step_locally() -> None:
    model = line(strategies.mirrored_strategy(2, devices_per_replica=2))
    Pipeline(model, ["b"])
    with pytest.raises(ValueError, match="must not contain LocalUpdates for a pipeline"):
        fit(model, callbacks=[LocalUpdates(every=2)])


def test_a_large_layer_has_a_stage_of_its_own(two: tf.distribute.Strategy) -> None:
    with two.scope():
        small = [layers.Dense(2, name=f"small{i}") for i in range(4)]
        large = layers.Dense(3000, name="large")
        model = keras.Sequential([keras.Input([3000]), large, *small])
        assert Pipeline(model).stage_names[0] == ("large",)


def test_times_are_measured_and_shown(two: tf.distribute.Strategy, tmp_path: Path) -> None:
    model = line(two)
    pipeline = Pipeline(model, ["b"], 4, schedule="1f1b", timed=True)
    with pytest.raises(ValueError, match="a step must have been taken"):
        pipeline.measured_bubble()
    fit(model)
    assert 0 <= pipeline.measured_bubble() < 1
    report = pipeline.report()
    assert re.search(r"CPU:1: b \.\.\. c, 2 operations", report)
    assert "waiting by formula: 20.0%\nwaiting as measured: " in report
    assert report.endswith("stage 0  01..aa2bb3cc.dd\nstage 1  .0aa1bb2cc3dd..")
    stages = Stages.of(pipeline)
    assert "4 microbatches, waiting 20.0% by formula" in stages.title
    assert [(p.stage, p.kind) for p in stages.passes].count((1, "backward")) == 4
    pipeline.picture(tmp_path / "pipeline.svg")
    assert (tmp_path / "pipeline.svg").read_text("utf-8").count("<rect ") == 16
    with pytest.raises(OSError, match=r"no/a\.svg could not be written.* Make its folder, or name"):
        pipeline.picture(tmp_path / "no" / "a.svg")


def test_a_loop_outside_of_a_step_is_refused_with_the_cure(two: tf.distribute.Strategy) -> None:
    model = line(two)
    Pipeline(model, ["b"], 2)
    with two.scope(), tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(np.ones((2, 2))))
        with pytest.raises(ValueError, match=r"must be called on the replicas.*train_step.*fit"):
            tape.gradient(loss, model.trainable_variables)


def test_each_device_begins_a_unit_when_the_one_before_is_done(two: tf.distribute.Strategy) -> None:
    model = line(two)
    pipeline = Pipeline(model, ["b"], 4, schedule="1f1b", timed=True)
    fit(model)
    units, times = pipeline._pipeline.units, pipeline._pipeline.times.numpy()
    for chunk in (0, 1):
        own = [time for unit, time in zip(units, times, strict=True) if unit.chunk == chunk]
        flat = np.ravel(own)
        assert len(own) == 8
        assert np.all(np.diff(flat) >= 0)
