"""Training in turns: a `fit` whose epochs are the turns, and the bare loop as the lower limit.

One call of `fit` runs the whole race. Epoch 0 is the warm-up, and every later epoch waits for its
turn. What is timed is the steps, and at the end of a turn the reading of the metrics, which ensures
that the steps have finished.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfscale.bench.models import BATCHES, model_named
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race
from tfscale.verify.batches import Batch, as_dataset, num_rows, take_batches, with_rows
from tfscale.verify.user_model import UserModel, WrongUsage

NewStrategy = Callable[[], tf.distribute.Strategy | None]
SEED = 0


def fit_in_turns(
    new_strategy: NewStrategy,
    race: Race,
    turns: Turns,
    num_workers: int,
    distributed: Callable[[Any, tf.data.Dataset], Any] = lambda strategy, dataset: dataset,
) -> None:
    """Trains with `fit`, one epoch per turn.

    Args:
        new_strategy: Builds the strategy, or returns None for stock Keras on one device.
        race: What is trained, and how long.
        turns: The connection to the race.
        num_workers: Workers of this process's cluster; 0 without one.
        distributed: Maps the strategy and the dataset to the input of `fit`. By default the dataset
            itself.
    """
    strategy = new_strategy()
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model, dataset = compiled_model(race, num_workers)
    if model.steps_per_execution > 1 and race.steps % model.steps_per_execution:
        raise WrongUsage(
            "`steps` must be a multiple of the model's `steps_per_execution`, "
            f"{model.steps_per_execution}. Received: steps={race.steps}."
        )
    model.fit(
        distributed(strategy, dataset),
        epochs=race.rounds + 1,
        steps_per_epoch=race.steps,
        verbose=0,
        callbacks=[_EpochsAsTurns(turns)],
    )


def loop_in_turns(race: Race, turns: Turns, num_workers: int) -> None:
    """Trains with a loop inside the graph: gradients and updates; no metrics, callbacks or logs."""
    model, dataset = compiled_model(race, num_workers)
    if type(model).train_step is not keras.Model.train_step:
        raise WrongUsage(
            "`variants` must not include loop for a model with a custom `train_step`. Received: "
            f"{type(model).__name__}. Pass the others: --variants=stock,one_device,mirrored"
        )
    batches = iter(dataset)

    def step(batch: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=sample_weight)
            scaled = model.optimizer.scale_loss(loss)
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(scaled, variables), variables)
        return tf.cast(loss, tf.float32)

    @tf.function
    def train(batches: Any, count: tf.Tensor) -> Any:
        loss = step(next(batches))
        for _ in tf.range(count - 1):
            loss = step(next(batches))
        return loss

    model.optimizer.build(model.trainable_variables)
    count = tf.constant(race.steps)
    turns.ready(finite_loss(train(batches, count)))
    for _ in range(race.rounds):
        turns.start()
        finite_loss(train(batches, count))
        turns.finish()


def compiled_model(race: Race, num_workers: int) -> tuple[Any, tf.data.Dataset]:
    """Builds the model of a race in the current scope, and an endless dataset of its batches.

    The batches are in memory and of equal size, so that reading is not timed. The batch of a
    cluster is the batch of one device times its workers (weak scaling).

    Raises:
        WrongUsage: If the user's function does not return a model and data as required.
    """
    keras.utils.set_random_seed(SEED)
    if race.target:
        model, data = UserModel(race.target).build()
        batches = take_batches(data, BATCHES, race.batch_size)
        rows = num_rows(batches[0])
        batches = [batch for batch in batches if num_rows(batch) == rows]
        if num_workers > 1:  # every worker trains on the rows of one device
            batches = [with_rows(batch, [*range(rows)] * num_workers) for batch in batches]
    else:
        named = model_named(race.model)
        batch_size = named.batch_size * max(1, num_workers)
        model = named.compiled()
        batches = take_batches(named.examples(BATCHES * batch_size), BATCHES, batch_size)
    if race.steps_per_execution is not None:
        model.steps_per_execution = race.steps_per_execution
    return model, _in_memory(batches).repeat().prefetch(2)


def _in_memory(batches: Sequence[Batch]) -> tf.data.Dataset:
    parts = tf.nest.flatten(batches[0])
    if all(isinstance(part, np.ndarray) for part in parts):
        stacked = tf.nest.map_structure(lambda *parts: tf.stack(parts), *batches)
        return tf.data.Dataset.from_tensor_slices(stacked)
    return as_dataset(batches).cache()  # None, ragged and sparse parts do not stack


def finite_loss(value: Any) -> float:
    """Reads a loss, which waits for the pending steps, and checks that it is finite.

    Raises:
        RuntimeError: If the loss is infinite or NaN.
    """
    if not math.isfinite(loss := float(value)):
        raise RuntimeError(
            f"The loss must be finite for the times to be meaningful. Received: loss={loss}. Lower "
            "the learning rate, or scale the data."
        )
    return loss


class _EpochsAsTurns(keras.callbacks.Callback):
    """Has no hook for batches, so that Keras runs steps as it does without callbacks."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch > 0:
            self._turns.start()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        loss = finite_loss((logs or {}).get("loss", math.nan))
        if epoch > 0:
            self._turns.finish()
        else:
            self._turns.ready(loss)
