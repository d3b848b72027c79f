"""Program: a worker of a job whose workers get different arguments or data, and all raise.

    python -m tests.workers.disagreement FOLDER refused

Each case leaves the cluster usable, so the next one can follow, and the training at the end.
Without a cluster it runs that training on one device with stock Keras, for comparison.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tests.dead_drive import dead_drive, dead_drive_missing
from tests.workers.job import Found, leave
from tests.workers.small_models import ROWS, numbers, regression, rows
from tfscale.checkpoints import CheckpointDirectory, Content, Position, storage_errors
from tfscale.checkpoints.lease import Lease
from tfscale.checkpoints.lease_files import lease_files_at
from tfscale.checkpoints.lease_holder import Holder
from tfscale.checkpoints.lease_protocol import Periods

BATCH = 6


class RateOnOne(keras.callbacks.Callback):
    """Changes the learning rate in the second epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            self.model.optimizer.learning_rate = 0.3


class Reads(keras.utils.PyDataset):
    """Batches that are read by index."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        super().__init__()
        self._rows = x, y

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return tuple(part[index * BATCH : (index + 1) * BATCH] for part in self._rows)


def batches(x: np.ndarray, y: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, count * BATCH, BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


def dataset(x: np.ndarray, y: np.ndarray) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((x, y))


def calls(model: Any, index: int, size: int) -> dict[str, Callable[[], Any]]:
    """Calls in which the workers differ."""
    x, y = rows()
    mine = np.random.default_rng(index).permutation(len(x))
    fit: dict[str, Any] = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    stream = {"verbose": 0}
    cut = dataset(x, y).shard(size, index).batch(BATCH // size)
    off = tf.data.Options()
    off.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return {
        "epochs": lambda: model.fit(x, y, epochs=2 + index, **fit),
        "initial_epoch": lambda: model.fit(x, y, epochs=3, initial_epoch=index, **fit),
        "steps_per_epoch": lambda: model.fit(x, y, steps_per_epoch=2 + index, **fit),
        "batch_size": lambda: model.fit(x, y, **{**fit, "batch_size": 6 - index}),
        "class_weight": lambda: model.fit(x, y, class_weight={0: 1.0 + index}, **fit),
        "validation_data": lambda: model.fit(
            x, y, validation_data=None if index else (x, y), **fit
        ),
        "callbacks": lambda: model.fit(
            x, y, callbacks=[] if index else [tfscale.callbacks.Watchdog()], **fit
        ),
        "steps": lambda: model.evaluate(x, y, steps=1 + index, verbose=0),
        "rows cut": lambda: model.fit(x[index::size], y[index::size], **fit),
        "rows in another order": lambda: model.fit(x[mine], y[mine], **fit | {"batch_size": ROWS}),
        "weights of rows": lambda: model.fit(x, y, sample_weight=np.ones(len(x)) + index, **fit),
        "dataset cut": lambda: model.fit(cut, **stream),
        "dataset cut, no auto-sharding": lambda: model.fit(cut.with_options(off), **stream),
        "generator cut": lambda: model.fit(
            batches(x[index::size], y[index::size], 3), steps_per_epoch=3, **stream
        ),
        "PyDataset cut": lambda: model.fit(Reads(x[index:], y[index:]), **stream),
        "pipeline cut": lambda: model.fit(
            tfscale.data.input_pipeline(
                (x[index:20:2], y[index:20:2]), model.distribute_strategy, 4
            ),
            verbose=0,
        ),
        "validation cut": lambda: model.fit(
            x, y, validation_data=(x[index::size], y[index::size]), **fit
        ),
        "evaluate on rows cut": lambda: model.evaluate(x[index::size], y[index::size], verbose=0),
        "predict on rows cut": lambda: model.predict(x[index::size], verbose=0),
        "generators of other length": lambda: model.fit(batches(x, y, 3 - index), **stream),
        "rate in a callback": lambda: model.fit(
            x, y, epochs=3, callbacks=[RateOnOne()] if index else [], **fit
        ),
    }


def add_to_weights(model: Any) -> None:
    model.set_weights([weight + 1.0 for weight in model.get_weights()])


def turn_a_sign(model: Any) -> None:
    kernel, bias = model.get_weights()
    kernel[1, 0] = -kernel[1, 0]
    model.set_weights([kernel, bias])


def move_a_slot(model: Any) -> None:
    model.optimizer.variables[-1].assign([5.0])


CHANGES: dict[str, Callable[[Any], None]] = {
    "add to weights": add_to_weights,
    "turn a sign": turn_a_sign,
    "other rate": lambda model: setattr(model.optimizer, "learning_rate", 0.7),
    "other momentum": lambda model: setattr(model.optimizer, "momentum", 0.6),
    "move a slot": move_a_slot,
}
"""What worker 1 does to its model, and worker 0 does not."""


def refusal(call: Callable[..., Any], *data: Any) -> str:
    """Returns the message of the ValueError of a call, or "" if there is none."""
    try:
        call(*data, **({"verbose": 0} if data else {}))
    except ValueError as error:
        return str(error)
    return ""


def refused(strategy: tf.distribute.Strategy, index: int, size: int) -> Found:
    found: Found = {"value": tfscale.broadcast_value(strategy, [index + 1 / 3, "x"])}
    model = regression(strategy)
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    for name, call in calls(model, index, size).items():
        print(name, flush=True)
        found[name] = refusal(call)
        model.optimizer.learning_rate = 0.1
        tfscale.broadcast(model)
    x, y = rows()
    for name, change in CHANGES.items():
        print(name, flush=True)
        model = regression(strategy)
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)
        if index:
            change(model)
        found[name] = refusal(model.fit, x, y)
        found[f"{name}, evaluate"] = refusal(model.evaluate, x, y)
        found[f"{name}, predict"] = refusal(model.predict, x)
        if name != "other momentum":  # which is no variable
            tfscale.broadcast(model)
            found[f"{name}, sent"] = refusal(model.fit, x, y)
    return found


def cut_off(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """The checkpoint that the chief reads is on a drive whose server has ended."""
    if dead_drive_missing():
        return {"cut off": None}
    vars(storage_errors)["PAUSES_SECONDS"] = (0.01,)
    with contextlib.ExitStack() as drive:
        if index == 0:
            directory = CheckpointDirectory(folder / "cut-off")
            directory.save(Content(Position(0, 3, 3), {}, {}, {}))
            drive.enter_context(dead_drive(folder / "cut-off" / "step-000000000003"))
        model = regression(strategy)
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)
        try:
            checkpoint = tfscale.callbacks.Checkpoint(folder / "cut-off")
            model.fit(*rows(), callbacks=[checkpoint], verbose=0)
        except OSError as error:
            return {"cut off": str(error)}
    return {"cut off": "trained"}


def of_another_job(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Another job saves to the chief's folder; to the chief it seems to be on another host."""
    place = str(folder / "taken")
    holder = Holder("elsewhere", 7, "today", "another boot", "1")
    lease = Lease(place, lease_files_at(place), holder, Periods(renew=0.1))
    if index == 0:
        lease.acquire()
    checkpoint = tfscale.callbacks.Checkpoint(place)
    model = regression(strategy)
    found = refusal(lambda: model.fit(*rows(), callbacks=[checkpoint], verbose=0))
    if index == 0:
        lease.release()
    return {"another job": found}


def reported(strategy: tf.distribute.Strategy, index: int) -> Found:
    """Inputs that each worker augments differently."""
    x, y = rows()
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        regression(strategy).fit(x + 0.001 * index, y, batch_size=BATCH, verbose=0)
    return {"augmented": said.getvalue()}


def right(strategy: tf.distribute.Strategy, index: int, size: int) -> Found:
    """Trains on rows that the user has split, and from weights that the chief has loaded."""
    x, y = rows()
    x, y = x[:18], y[:18]

    def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
        cut = dataset(x, y).shard(context.num_input_pipelines, context.input_pipeline_id)
        return cut.batch(BATCH // size)

    model = regression(strategy)
    if index == 0:
        model.set_weights([weight * 2.0 for weight in model.get_weights()])
        model.optimizer.learning_rate = 0.05
    tfscale.broadcast(model)
    given: Any = strategy.distribute_datasets_from_function(own) if size > 1 else None
    history = model.fit(
        given or dataset(x, y).batch(BATCH), epochs=2, steps_per_epoch=3, verbose=0
    ).history
    stream = model.fit(batches(x, y, 3), verbose=0).history
    found = {"weights": numbers(model), "loss": history["loss"] + stream["loss"]}
    return found | {"best": best(strategy, index)}


def best(strategy: tf.distribute.Strategy, index: int) -> list[float]:
    """Weights of the first epoch, which EarlyStopping restores on the chief only."""
    model = regression(strategy)
    stop = keras.callbacks.EarlyStopping(
        "loss", patience=1, min_delta=1e9, restore_best_weights=True
    )
    callbacks = [stop] if index == 0 else []
    model.fit(*rows(), batch_size=BATCH, shuffle=False, epochs=4, callbacks=callbacks, verbose=0)
    return numbers(model)


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    keras.config.set_floatx("float64")
    if "TF_CONFIG" not in os.environ:
        leave(folder, case, 0, right(tf.distribute.get_strategy(), 0, 1))
        return
    strategy = strategies.multi_worker_mirrored_strategy()
    index, size = strategy.cluster_resolver.task_id, strategy.num_replicas_in_sync
    found = refused(strategy, index, size) | reported(strategy, index)
    found |= right(strategy, index, size) | cut_off(strategy, folder, index)
    leave(folder, case, index, found | of_another_job(strategy, folder, index))


if __name__ == "__main__":
    main()
