"""Trains with LARS on one device and on 2 replicas, saves and loads; for test_lars_on_replicas.py.

Usage: python lars_on_replicas.py FOLDER. Leaves FOLDER/found.json and FOLDER/model.keras.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale

VARIANTS: dict[str, dict[str, Any]] = {
    "nesterov, clipping": {"nesterov": True, "global_clipnorm": 0.1},
    "accumulating, averaging": {
        "gradient_accumulation_steps": 2,
        "use_ema": True,
        "ema_overwrite_frequency": 2,
    },
}


def rows() -> tuple[Any, Any]:
    """Eleven examples: in batches of 4 the last is uneven on 2 replicas."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(11, 3)), rng.normal(size=(11, 2))


def compiled(strategy: tf.distribute.Strategy | None, **arguments: Any) -> keras.Model:
    """A model with biases and a normalization layer, built alike each time."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4, activation="tanh"),
                keras.layers.BatchNormalization(synchronized=True),
                keras.layers.Dense(2),
            ]
        )
        cosine = keras.optimizers.schedules.CosineDecay(2.0, 20)
        rate = tfscale.schedules.adjustable(tfscale.schedules.warmup(cosine, 3), factor=0.5)
        optimizer = tfscale.optimizers.LARS(
            rate, weight_decay=0.01, trust_coefficient=0.05, **arguments
        )
        model.compile(optimizer, "mse")
    return model


def fitted(model: keras.Model) -> list[Any]:
    """The weights after 4 epochs more."""
    model.fit(*rows(), batch_size=4, epochs=4, shuffle=False, verbose=0)
    return [weight.tolist() for weight in model.get_weights()]


def main(folder: str) -> None:
    """Writes what came out."""
    strategy = strategies.mirrored_strategy(2)
    tfscale.set_precision("float64")
    found: dict[str, Any] = {}
    for name, arguments in VARIANTS.items():
        found[name] = [fitted(compiled(one, **arguments)) for one in (None, strategy)]

    path = Path(folder) / "model.keras"
    model = compiled(strategy)
    found["plain"] = fitted(model)
    model.save(path)
    again = keras.models.load_model(path)
    found["classes"] = [type(again.optimizer).__name__, again.optimizer.get_config()]
    found["continued"] = [fitted(model), fitted(again)]
    (Path(folder) / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
