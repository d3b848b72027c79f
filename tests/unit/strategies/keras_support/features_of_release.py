"""Uses each feature of a release in which the symbols of all features changed; prints a report.

    python features_of_release.py changed     two replicas; every feature's symbols are changed
    python features_of_release.py known       the same training with the installed release

Prints JSON: the refusal of each use by its name, or null, and the losses of a plain training.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from strategies.keras_support.patching.needs import Need
from tests.changed_release import change, refusal_of

ROWS = 24


def data() -> tuple[Any, Any]:
    random = np.random.default_rng(7)
    return random.normal(size=(ROWS, 4)), random.integers(0, 2, size=(ROWS, 1)).astype("float64")


class InnerFunction(keras.Model):
    """Takes its steps in a `tf.function`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    @tf.function
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def main(state: str) -> None:
    """Prints the report."""
    keras.config.set_floatx("float64")
    if state == "changed":
        change([need for need in Need if not need.is_of_strategy])
    strategy = strategies.mirrored_strategy(2)
    x, y = data()

    def model(*layers: Any, scales_loss: bool = False, stores_slots: bool = False) -> Any:
        keras.utils.set_random_seed(1)
        with strategy.scope():
            made = keras.Sequential([*layers, keras.layers.Dense(1)])
            plain = keras.optimizers.SGD(momentum=0.5 if stores_slots else 0.0)
            if stores_slots:
                plain = tfscale.optimizers.with_state_dtype(plain)
            made.compile(
                keras.optimizers.LossScaleOptimizer(plain) if scales_loss else plain, "mse"
            )
        return made

    def fit(made: Any, **arguments: Any) -> Any:
        return made.fit(
            x, y, batch_size=5, epochs=2, shuffle=False, verbose=0, **arguments
        ).history["loss"]

    def fit_pipeline(**arguments: Any) -> Any:
        pipeline = tfscale.data.input_pipeline((x, y), strategy, global_batch_size=6, seed=1)
        return model().fit(pipeline, epochs=1, verbose=0, **arguments)

    def clear() -> None:
        with strategy.scope():
            keras.backend.clear_session()

    def recompute() -> None:
        with strategy.scope():
            keras.remat(keras.ops.tanh)

    def inner_function() -> Any:
        with strategy.scope():
            made = InnerFunction()
            made.compile("sgd", "mse")
        return fit(made)

    folder = Path(tempfile.mkdtemp())
    callbacks = keras.callbacks
    dense = keras.layers.Dense
    uses: dict[str, Callable[[], Any]] = {
        "evaluate": lambda: model().evaluate(x, y, verbose=0),
        "validation": lambda: fit(model(), validation_data=(x, y)),
        "predict": lambda: model().predict(x, verbose=0),
        "class_weight": lambda: fit_pipeline(class_weight={0: 1.0, 1: 2.0}),
        "class_weight of arrays": lambda: fit(model(), class_weight={0: 1.0, 1: 2.0}),
        "pipeline": fit_pipeline,
        "dropout": lambda: fit(model(keras.layers.Dropout(0.5))),
        "regularizer": lambda: fit(model(dense(2, kernel_regularizer="l2"))),
        "synchronized": lambda: fit(model(keras.layers.BatchNormalization(synchronized=True))),
        "not synchronized": lambda: fit(model(keras.layers.BatchNormalization())),
        "loss scaling": lambda: fit(model(scales_loss=True)),
        "inner function": inner_function,
        "clear_session": clear,
        "backup": lambda: fit(
            model(), callbacks=[callbacks.BackupAndRestore(str(folder / "backup"))]
        ),
        "csv": lambda: fit(model(), callbacks=[callbacks.CSVLogger(str(folder / "log.csv"))]),
        "checkpoint": lambda: fit(
            model(), callbacks=[callbacks.ModelCheckpoint(str(folder / "model.keras"))]
        ),
        "local updates": lambda: fit(model(), callbacks=[tfscale.callbacks.LocalUpdates(2)]),
        "pruning": lambda: fit(
            model(), callbacks=[tfscale.shrink.Prune(tfscale.shrink.OneShot(0.5))]
        ),
        "microbatches": lambda: fit(model(), callbacks=[tfscale.callbacks.Microbatches(2)]),
        "slots in bfloat16": lambda: fit(model(stores_slots=True)),
        "recomputation": recompute,
        "sharded": lambda: strategies.mirrored_strategy(2, shard=1),
        "saving": lambda: model().save(folder / "saved.keras"),
    }
    refusals = {name: refusal_of(use) for name, use in uses.items()} if state == "changed" else {}
    keras.utils.set_random_seed(2)
    losses = fit(model(dense(3, "tanh")))
    print(json.dumps({"losses": losses, "refusals": refusals}))


if __name__ == "__main__":
    main(sys.argv[1])
