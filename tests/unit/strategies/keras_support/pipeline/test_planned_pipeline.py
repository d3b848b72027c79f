"""A pipeline that is traced for devices that are not there, as a memory plan does."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from strategies.extension import (
    noted_units,
    plan_devices,
    planned_place,
    support,
    traced_train_step,
    train_as_pipeline,
    training_step_of,
)

pytestmark = pytest.mark.own_process


def test_a_trace_names_planned_devices_and_notes_its_units() -> None:
    strategy = support(tf.distribute.OneDeviceStrategy("CPU:0"))
    plan_devices(strategy, 2)
    with strategy.scope():
        dense = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
        model = keras.Sequential([keras.Input((3,)), *dense])
        model.compile("sgd", "mse", jit_compile=False)
    train_as_pipeline(model, [1], 1, "gpipe", 1)
    batch = (tf.TensorSpec([8, 3]), tf.TensorSpec([8, 2]))
    step = training_step_of(model)
    graph = traced_train_step(model, batch, for_xla=False, train_step=step).graph
    units = noted_units(graph)
    passes = [(unit.is_forward, unit.chunk) for unit, _, _ in units]
    assert passes == [(True, 0), (True, 1), (False, 1), (False, 0)]
    operations = graph.get_operations()
    for unit, first, stop in units:
        products = [op for op in operations[first:stop] if op.type == "MatMul"]
        assert {planned_place(op.device) for op in products} == {unit.chunk}
    assert {variable.value.device[-5:] for variable in model.weights} == {"CPU:0"}
