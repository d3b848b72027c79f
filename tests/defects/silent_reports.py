"""Wrong values are reported, placed or restored without an error."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tests.defects.row import DEFAULT, Findings, Run, X, Y, row
from tests.defects.silent import OwnLoss


@row(
    "S13",
    "a `train_step` that returns its own loss",
    right={"loss in history": np.mean(np.square(Y))},
)
def own_loss_in_history(run: Run) -> Findings:
    with run.strategy.scope():
        model = OwnLoss([keras.Input((3,)), layers.Dense(2, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(0.0))  # predicts 0, so that the loss is known
    history = model.fit(X, Y, batch_size=24, shuffle=False, verbose=0).history
    return {"loss in history": history["loss"][0]}


@row("S16", "a count in the logs of a batch", right={"true positives, of 24": 24.0})
def batch_logs(run: Run) -> Findings:
    with run.strategy.scope():
        ones = layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones")
        model = keras.Sequential([keras.Input((3,)), ones])
        metric = keras.metrics.TruePositives(name="positives")
        model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[metric])
    seen: list[float] = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["positives"])
    )
    model.fit(X, np.ones([24, 1]), batch_size=24, callbacks=[note], verbose=0)
    return {"true positives, of 24": seen[0]}


@row(
    "S17",
    "`keras.distribution.DataParallel` over two devices",
    DEFAULT,
    right={"devices with weights": 2},
    refused="Call keras.distribution.set_distribution(None)",
)
def keras_distribution(run: Run) -> Findings:
    mesh = keras.distribution.DeviceMesh((2,), ["batch"], ["cpu:0", "cpu:1"])
    keras.distribution.set_distribution(keras.distribution.DataParallel(device_mesh=mesh))
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    devices = {weight.value.device for weight in model.weights}
    return {"devices with weights": len(devices)}


class Interrupt(keras.callbacks.Callback):
    """Ends the first training in the middle of its second epoch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.model.optimizer.iterations.numpy() == 11:
            raise InterruptedError


@row(
    "S19",
    "`BackupAndRestore(save_freq=2)`, stopped in mid-epoch: 3 epochs of 6 steps",
    right={"steps": 18},
    refused="save_freq='epoch'",
)
def backup_in_mid_epoch(run: Run) -> Findings:
    for callbacks in ([Interrupt()], []):
        with run.strategy.scope():
            model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
            model.compile(keras.optimizers.SGD(0.1), "mse")
        backup = keras.callbacks.BackupAndRestore(str(run.folder / "backup"), save_freq=2)
        try:
            model.fit(X, Y, batch_size=4, epochs=3, callbacks=[backup, *callbacks], verbose=0)
        except InterruptedError:
            continue
    return {"steps": int(model.optimizer.iterations.numpy())}
