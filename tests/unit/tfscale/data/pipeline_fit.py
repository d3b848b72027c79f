"""Trains, evaluates and predicts with pipelines on 2 replicas, for test_pipeline.py."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tfscale.data import input_pipeline


def build() -> keras.Model:
    """A linear model whose weights start at ones."""
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", metrics=["mae"])
    return model


def padded_and_kept(
    strategy: tf.distribute.Strategy, arrays: tuple[np.ndarray, ...], reduction: str
) -> list[Any]:
    """What a model learns, and its evaluation, with padding and without."""
    found = []
    pipelines = [
        input_pipeline(arrays, strategy, 7, remainder=remainder) for remainder in ("pad", "keep")
    ]
    for pipeline in pipelines:
        with strategy.scope():
            model = build()
            loss = keras.losses.MeanSquaredError(reduction=reduction)
            model.compile(keras.optimizers.SGD(0.01), loss, weighted_metrics=["mae"])
        model.fit(pipeline, epochs=2, verbose=0)
        results = [model.evaluate(data, verbose=0) for data in reversed(pipelines)]
        found.append([*model.layers[0].kernel.numpy().ravel().tolist(), *results[0], *results[1]])
    return found


def main() -> None:
    """Prints JSON: pairs of what a pipeline gave on 2 replicas and Keras alone on one device."""
    strategy = strategies.mirrored_strategy(2)
    tfscale.set_precision("float64")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 3)), rng.normal(size=(23, 1))
    train = input_pipeline((x, y), strategy, 8, seed=3)
    held = input_pipeline((x, y), strategy, 10, shuffle=False)
    with strategy.scope():
        model = build()
    history = model.fit(train, epochs=3, validation_data=held, verbose=0).history

    # The oracle knows the order alone: the ids a pipeline of the ids yields.
    ids = iter(input_pipeline(np.arange(23), strategy, 8, seed=3).local(0))
    oracle = build()
    validation = []
    for _ in range(3):
        for _ in range(3):
            batch = np.concatenate([next(ids), next(ids)])
            oracle.train_on_batch(x[batch], y[batch])
        validation.append(oracle.evaluate(x, y, batch_size=10, verbose=0)[0])

    padded = input_pipeline((x, y), strategy, 7, seed=3, remainder="pad")
    held_padded = input_pipeline((x, y), strategy, 7, shuffle=False, remainder="pad")
    kept = input_pipeline((x, y), strategy, 7, seed=3)
    with strategy.scope():
        on_padded, on_kept = build(), build()
    on_padded.fit(padded, epochs=2, verbose=0)
    on_kept.fit(kept, epochs=2, verbose=0)

    weights = rng.integers(1, 5, 23)
    padding = {
        f"{name}, padded": padded_and_kept(strategy, arrays, reduction)
        for name, arrays, reduction in (
            ("mean", (x, y), "sum_over_batch_size"),
            ("sum", (x, y), "sum"),
            ("mean by integer weights", (x, y, weights), "mean_with_sample_weight"),
        )
    }
    one = strategies.mirrored_strategy(1)
    with one.scope():
        on_one = build()
    for remainder in ("pad", "keep"):
        held_by_one = input_pipeline((x, y), one, 7, shuffle=False, remainder=remainder)
        rows = on_one.predict(held_by_one, verbose=0).tolist()
        padding.setdefault("predict on one replica, padded", []).append(rows)

    with one.scope():
        layers = [keras.Input([3]), keras.layers.BatchNormalization(name="normal")]
        normalized = keras.Sequential([*layers, keras.layers.Dense(1)])
        normalized.compile("sgd", "mse")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        normalized.fit(input_pipeline((x, y), one, 7, remainder="pad"), verbose=0)
        normalized.fit(input_pipeline((x, y), one, 7), verbose=0)
    found = {str(one.message) for one in caught if "Padding rows" in str(one.message)}
    padding["warned of padding"] = [["count in normal," in text for text in found], [True]]

    stream = tf.data.Dataset.from_tensor_slices((x, y))
    streamed = input_pipeline(stream, strategy, 8, shuffle=False)
    print(
        json.dumps(
            {
                "weights": [
                    w.tolist() for m in (model, oracle) for w in [m.layers[0].kernel.numpy()]
                ],
                "validation": [history["val_loss"], validation],
                "evaluate": [
                    model.evaluate(held, verbose=0),
                    oracle.evaluate(x, y, batch_size=10, verbose=0),
                ],
                "predict": [
                    model.predict(held, verbose=0).tolist(),
                    oracle.predict(x, verbose=0).tolist(),
                ],
                "weights, padded": [
                    m.layers[0].kernel.numpy().tolist() for m in (on_padded, on_kept)
                ],
                "predict, padded": [
                    on_padded.predict(held_padded, verbose=0).tolist(),
                    on_kept.predict(x, verbose=0).tolist(),
                ],
                **padding,
                "predict stream": [
                    model.predict(streamed, verbose=0).tolist(),
                    oracle.predict(x, verbose=0).tolist(),
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
