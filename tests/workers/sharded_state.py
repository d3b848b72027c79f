"""Program: one worker of a job that trains with shard=1, 2 and 3, and saves at each stage.

Packs are small, so that there are several in a step.

    python -m tests.workers.sharded_state FOLDER all
    python -m tests.workers.sharded_state FOLDER thirty-steps-3     models and optimizers at stage 3

Without a cluster it trains on one device with stock Keras, for comparison.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
from strategies.keras_support.context import packs
from tests.stock_keras import batches_counted_once
from tests.unit.strategies.keras_support.beside_one_device import on_strategy
from tests.unit.strategies.keras_support.sharding.small_models import (
    convolutions,
    decoder,
    embeddings,
)
from tests.unit.strategies.keras_support.sharding.trainings import OFTEN_USED, thirty_steps
from tests.workers.job import Found, leave

STAGES = (1, 2, 3)
PACK_BYTES = 200


def trained(strategy: tf.distribute.Strategy, *callbacks: Any) -> Any:
    """Trains on batches of 7, of which two workers have 4 and 3 examples."""
    draw = np.random.default_rng(0)
    tokens, targets = draw.integers(0, 17, size=(22, 3)), draw.normal(size=(22, 2))
    keras.utils.set_random_seed(1)
    with strategy.scope():
        inputs = keras.Input((3,), dtype="int32")
        tied = keras.layers.ReversibleEmbedding(17, 4)  # its gradient has no static shape
        rows = keras.layers.Embedding(17, 4)(inputs) + tied(inputs)
        hidden = keras.layers.Dense(4, "tanh", kernel_regularizer="l2")
        read = keras.layers.LSTM(3)(rows)  # reads its weights in a loop
        flat = keras.layers.Concatenate()([keras.layers.Flatten()(rows), read])
        logits = tied(hidden(flat), reverse=True)
        model = keras.Model(inputs, keras.layers.Dense(2)(logits))
        optimizer = keras.optimizers.AdamW(0.01, global_clipnorm=0.1, use_ema=True)
        model.compile(optimizer, "mse")
    model.fit(
        tokens,
        targets,
        batch_size=7,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def thirty_steps_of_each(strategy: tf.distribute.Strategy, stage: int) -> Found:
    """Trains with each often used optimizer one of three models, at another stage another one."""
    results: Found = {}
    for i, (name, optimizer) in enumerate(OFTEN_USED.items()):
        build = (decoder, convolutions, embeddings)[(i + stage) % 3]
        found = on_strategy(
            functools.partial(thirty_steps, build=build, optimizer=optimizer), strategy
        )
        for value, array in found.items():
            results[f"{name}, {build.__name__}, {value}"] = np.ravel(array).tolist()
    return results


def state(model: Any) -> Found:
    """Returns all values; reading them is a call of all workers."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"{i} {v.path}": np.ravel(v.numpy()).tolist() for i, v in enumerate(variables)}


def held(model: Any) -> int:
    """Returns the elements of the optimizer's slots in this process."""
    values = [v._value for v in model.optimizer.variables if len(v.shape)]
    return sum(
        int(part.shape.num_elements())
        for value in values
        for part in value.parts
        if part is not None
    )


def train_each(folder: Path, case: str, stage: int) -> None:
    """Trains on one device with stock Keras, or as one worker."""
    if "TF_CONFIG" not in os.environ:
        with batches_counted_once():
            leave(folder, case, 0, thirty_steps_of_each(tf.distribute.get_strategy(), stage))
        return
    strategy = strategies.multi_worker_mirrored_strategy(shard=stage)
    index = strategy.cluster_resolver.task_id
    leave(folder, case, index, thirty_steps_of_each(strategy, stage))


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    keras.config.set_floatx("float64")
    if case.startswith("thirty-steps-"):
        train_each(folder, case, int(case[-1]))
        return
    if "TF_CONFIG" not in os.environ:
        leave(folder, case, 0, state(trained(tf.distribute.get_strategy())))
        return
    found: Found = {}
    packs.PACK_BYTES = PACK_BYTES
    index = 0
    for stage in STAGES:
        strategy = strategies.multi_worker_mirrored_strategy(shard=stage)
        index = strategy.cluster_resolver.task_id
        file = folder / f"stage-{stage}.keras"
        model = trained(strategy, keras.callbacks.ModelCheckpoint(str(file)))
        found[str(stage)] = {"state": state(model), "held": held(model)}
    leave(folder, case, index, found)


if __name__ == "__main__":
    main()
