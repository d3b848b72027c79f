"""Training gives another model without an error: two replicas in one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.defects.row import WORKERS, Findings, Run, X, Y, row, trained, visited, visits_model


@row("S1", "`mixed_float16`, an inf on the second replica only")
@row("H1", "`mixed_float16`, an inf on the second worker only", WORKERS)
def loss_scaling(run: Run) -> Findings:
    keras.config.set_dtype_policy("mixed_float16")
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    y = Y[:8].copy()
    y[-1] = 6e4  # times the scale, no longer finite in float16
    model.fit(X[:8], y, batch_size=8, shuffle=False, verbose=0)
    broken = sum(np.count_nonzero(~np.isfinite(weight)) for weight in model.get_weights())
    return {"NaN weights": broken, "loss scale": float(model.optimizer.dynamic_scale.numpy())}


@row(
    "S2",
    "BatchNormalization: `evaluate` before and after saving",
    right={"loss of the saved model minus loss": 0.0},
)
def moving_statistics(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    x = X * np.where(np.arange(24) % 8 < 4, 1.0, 5.0)[:, None]  # the halves of a batch differ
    model.fit(x, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    model.save(run.folder / "model.keras")
    saved = keras.saving.load_model(run.folder / "model.keras")
    before, after = (m.evaluate(x, Y, batch_size=8, verbose=0) for m in (model, saved))
    return {"loss of the saved model minus loss": after - before}


FAR = X + 1e5


@row(
    "S2",
    "BatchNormalization(synchronized=True): the variance of data around 100,000",
    right={"variance": np.var(FAR[16:], axis=0)},
)
def synchronized_moments(run: Run) -> Findings:
    with run.strategy.scope():
        normalize = layers.BatchNormalization(momentum=0.0, synchronized=True)
        model = keras.Sequential([keras.Input((3,)), normalize, layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(FAR, Y, batch_size=8, shuffle=False, verbose=0)
    return {"variance": normalize.moving_variance.numpy()}  # of the last batch


@row(
    "S3",
    "BatchNormalization, a last batch of one example",
    right={"NaN weights": 0},
)
def empty_share(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X[:17], Y[:17], batch_size=8, shuffle=False, verbose=0)
    copies = [
        np.array(copy)
        for weight in model.weights
        for copy in run.strategy.experimental_local_results(weight.value)
    ]
    return {"NaN weights": sum(np.count_nonzero(np.isnan(copy)) for copy in copies)}


def _clipped(run: Run, optimizer: Any) -> keras.Model:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(optimizer(), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model


@row("S4", "`clipnorm`, `global_clipnorm`, `clipvalue`")
def clipping(run: Run) -> Findings:
    return trained(
        _clipped(run, lambda: keras.optimizers.SGD(0.1, clipnorm=0.1)),
        _clipped(run, lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.1)),
        _clipped(run, lambda: keras.optimizers.SGD(0.1, clipvalue=0.1)),
    )


@row("S5", "the last batch has 5 examples")
def uneven_batch(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X[:21], Y[:21], batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("S6", "`fit` on a generator", right={"examples trained, of 160": 160})
def generator(run: Run) -> Findings:
    def batches() -> Iterator[tuple[Any, Any]]:
        for first in range(0, 160, 16):
            yield np.arange(first, first + 16)[:, None], np.zeros([16, 1])

    model = visits_model(run, 160)
    model.fit(batches(), verbose=0)
    return visited(model, 160)


@row("S7", "a dataset of unknown length: 3 batches, 4 epochs", right={"steps": 12})
def unknown_length(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).filter(lambda x, y: True)
    model.fit(dataset, epochs=4, verbose=0)
    return {"steps": int(model.optimizer.iterations.numpy())}


@row("S11", "Dropout", right={"examples with the other replica's mask": 0})
def dropout(run: Run) -> Findings:
    with run.strategy.scope():
        ones = layers.Embedding(8, 64, embeddings_initializer="ones")
        model = keras.Sequential([ones, layers.Dropout(0.5), layers.Flatten()])
        model.compile(keras.optimizers.SGD(1.0), lambda y, predicted: predicted)
    model.fit(np.arange(8)[:, None], np.zeros([8, 1]), batch_size=8, shuffle=False, verbose=0)
    masks = model.get_weights()[0] != 1.0  # weights of dropped inputs do not change
    same = (masks[:4, None] == masks[4:]).all(axis=-1).any(axis=1)
    return {"examples with the other replica's mask": np.count_nonzero(same)}


class OwnLoss(keras.Sequential):
    """A step as for one device: computes the mean and reports it."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(y - self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


@row("S12", "a `train_step` that uses `tf.reduce_mean`")
def own_loss(run: Run) -> Findings:
    with run.strategy.scope():
        model = OwnLoss([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1))
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("S18", "`keras.distillation.Distiller`")
def distiller(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.distillation.Distiller(
            teacher=keras.Sequential([keras.Input((3,)), layers.Dense(2)]),
            student=keras.Sequential([keras.Input((3,)), layers.Dense(2)]),
            distillation_losses=keras.distillation.LogitsDistillation(temperature=2.0),
        )
        model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("S20", "a masked loss")
def masked_loss(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((4, 3)), layers.Masking(), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.repeat(X[:, None], 4, axis=1)
    # Rows 0 to 7 of a batch have 1, 1, 2, 2, 3, 3, 4 and 4 tokens.
    x[np.arange(24)[:, None] % 8 // 2 < np.arange(4)] = 0.0
    y = np.repeat(Y[:, None], 4, axis=1)
    model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("S20", '`reduction="mean_with_sample_weight"`')
def weighted_mean(run: Run) -> Findings:
    with run.strategy.scope():
        loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), loss)
    weights = np.arange(24.0)
    model.fit(X, Y, batch_size=8, epochs=3, sample_weight=weights, shuffle=False, verbose=0)
    return trained(model)
