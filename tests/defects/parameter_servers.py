"""Two workers and a parameter server, all in one process."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers

from tests.defects.row import PARAMETER_SERVERS, Findings, Run, X, Y, row

STEPS = 400


@row(
    "S14",
    f"parameter servers: {STEPS} steps of two workers",
    PARAMETER_SERVERS,
    right={"steps": STEPS},
)
def lost_updates(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        optimizer = keras.optimizers.SGD(0.01)
        optimizer.build(model.trainable_variables)
    x, y = tf.constant(X), tf.constant(Y)

    def replica_step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(y - model(x, training=True)))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    @tf.function
    def step() -> None:
        run.strategy.run(replica_step)

    coordinator = tf.distribute.coordinator.ClusterCoordinator(run.strategy)
    for _ in range(STEPS):
        coordinator.schedule(step)
    coordinator.join()
    return {"steps": int(optimizer.iterations.numpy())}


@row("C15", "parameter servers: `fit`", PARAMETER_SERVERS, right={"steps": 3})
def fit(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).repeat().batch(8)
    model.fit(dataset, steps_per_epoch=3, verbose=0)
    return {"steps": int(model.optimizer.iterations.numpy())}
