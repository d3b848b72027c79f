"""Errors instead of training: two replicas in one process, and C1 on workers."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers

from tests.defects.row import MIRRORED, WORKERS, Findings, Run, X, Y, row, trained

OUTSIDE = "under `with strategy.scope():`"


@row("C1", "`fit` and `evaluate`", WORKERS)
def plain_fit(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return {"loss": model.evaluate(X, Y, batch_size=8, verbose=0), **trained(model)}


@row("C2", "`gradient_accumulation_steps`")
def accumulation(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.1, gradient_accumulation_steps=2), "mse")
    model.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("C3", "`use_ema` with `ema_overwrite_frequency`")
def overwriting_average(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2)
        model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("C4", "`steps_per_execution=2`")
def several_steps(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse", steps_per_execution=2)
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("C5", "a first batch of 3 examples")
def uneven_first_batch(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X[:3], Y[:3], batch_size=3, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("C6", "strings as inputs")
def strings(run: Run) -> Findings:
    words = ["a", "b", "c"]
    with run.strategy.scope():
        look_up = layers.StringLookup(vocabulary=words)
        embed = layers.Embedding(4, 2)
        inputs = keras.Input((1,), dtype="string")
        model = keras.Sequential([inputs, look_up, embed, layers.Flatten()])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    x = [[word] for word in 8 * words]
    dataset = tf.data.Dataset.from_tensor_slices((x, Y)).batch(8)
    model.fit(dataset, epochs=3, verbose=0)
    return trained(model)


@row("C7", "a second strategy in one process, a model of another size")
def second_strategy(run: Run) -> Findings:
    models = []
    for strategy, units in ((run.strategy, 2), (run.another(), 5)):
        with strategy.scope():
            layered = [keras.Input((3,)), layers.Dense(units), layers.Dense(2)]
            model = keras.Sequential(layered)
            model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
        models.append(model)
    return trained(*models)


@row("C12", "`jit_compile=True`, replicas", MIRRORED, refused="compile(jit_compile='auto')")
@row("C12", "`jit_compile=True`, workers", WORKERS, refused="compile(jit_compile='auto')")
def xla(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=True)
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return trained(model)


@row("C13", "an optimizer made outside `scope()`", refused=OUTSIDE)
def stray_optimizer(run: Run) -> Findings:
    optimizer = keras.optimizers.Adam(0.1)
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return trained(model)


@row("C14", "a model made outside `scope()`, compiled inside", refused=OUTSIDE)
def stray_model(run: Run) -> Findings:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with run.strategy.scope():
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return trained(model)


@row("C14", "a model made inside `scope()`, compiled outside", refused=OUTSIDE)
def stray_compile(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return trained(model)


@row("C24", "`float(optimizer.learning_rate)` and `int(optimizer.iterations)`")
def numbers_of_variables(run: Run) -> Findings:
    with run.strategy.scope():
        optimizer = keras.optimizers.SGD(0.5)
    return {"rate": float(optimizer.learning_rate), "steps": int(optimizer.iterations)}


@row("C25", "`optimizer.apply` in the scope, outside a step", refused="Leave the scope first")
def applied_in_scope(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.5))
        gradients = [tf.ones(variable.shape) for variable in model.trainable_variables]
        model.optimizer.apply(gradients, model.trainable_variables)
    return trained(model)


@row("C27", "`keras.utils.clear_session()` in the scope", refused="distribution_strategy=strategy")
def cleared_in_scope(run: Run) -> Findings:
    with run.strategy.scope():
        keras.utils.clear_session()
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return trained(model)
