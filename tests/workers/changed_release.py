"""One worker under a release that changed symbols: of features, or of what workers need.

python -m tests.workers.changed_release FOLDER features|workers
python -m tests.workers.changed_release FOLDER stock      stock Keras on one device
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import strategies
from strategies.keras_support.patching.needs import Need
from tests.changed_release import change, refusal_of
from tests.workers.job import Found, leave
from tests.workers.small_models import numbers, regression, rows


def trained(strategy: tf.distribute.Strategy) -> tuple[Any, Found]:
    model = regression(strategy)
    model.fit(*rows(), batch_size=5, epochs=2, shuffle=False, verbose=0)
    return model, {"weights": numbers(model)}


def stock(folder: Path) -> Found:
    """Trains without tfscale."""
    return {**trained(tf.distribute.get_strategy())[1], "worker": 0}


def features(folder: Path) -> Found:
    """Trains without the changed features, then uses each on all workers."""
    change([need for need in Need if not need.is_of_strategy])
    strategy = strategies.multi_worker_mirrored_strategy()
    model, found = trained(strategy)

    def used(*callbacks: Any) -> str | None:
        return refusal_of(lambda: keras.callbacks.CallbackList(list(callbacks), model=model))

    found["csv"] = used(keras.callbacks.CSVLogger(str(folder / "log.csv")))
    found["checkpoint"] = used(keras.callbacks.ModelCheckpoint(str(folder / "model.keras")))
    found["tensorboard"] = used(keras.callbacks.TensorBoard(str(folder / "board")))
    found["none"] = used(keras.callbacks.EarlyStopping("loss"))

    def save_in_scope() -> None:
        with strategy.scope():
            model.save(folder / "saved.keras")

    found["saving"] = refusal_of(save_in_scope)
    return {**found, "worker": strategy.cluster_resolver.task_id}


def workers(folder: Path) -> Found:
    """Builds strategies where only what several workers need changed."""
    change([Need.WORKERS, Need.PARAMETER_SERVERS])
    found = {"several": refusal_of(strategies.multi_worker_mirrored_strategy)}
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    return {**found, "worker": cluster.task_id}


if __name__ == "__main__":
    keras.config.set_floatx("float64")
    chosen = {"features": features, "stock": stock, "workers": workers}[sys.argv[2]]
    result = chosen(Path(sys.argv[1]))
    leave(Path(sys.argv[1]), sys.argv[2], result.pop("worker"), result)
