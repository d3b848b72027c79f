"""One training of a subject, on one device or under a strategy, and all that it left behind."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfscale.verify.batches import Batch, as_dataset, inputs_of
from tfscale.verify.first_step import first_step, optimizers_by_name
from tfscale.verify.model import Trial, new_model, plain
from tfscale.verify.user_model import Subject, first_sentence

Arrays = dict[str, np.ndarray]
"""What was found, by name: `loss`, `weights/3 dense/kernel`, `predictions/0`, ..."""


@dataclass
class Findings:
    """What a training left behind.

    Attributes:
        arrays: What is compared, by name.
        missing: What could not be had on one device, by group, and why.
    """

    arrays: Arrays = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def observe(
    trial: Trial,
    initial: Sequence[np.ndarray],
    batches: Sequence[Batch],
    *,
    ordered: Sequence[Batch],
    skip: frozenset[str] = frozenset(),
    save_to: Path | None = None,
) -> Findings:
    """Trains and notes everything.

    Without a strategy, what raises beside the training itself is noted as missing: it is Keras's
    or the model's own, and no strategy is asked for it. The reference takes one step an execution,
    which may not change what is trained.

    Args:
        trial: How.
        initial: Values of `model.weights` to start from.
        batches: What is trained on, in order, again and again.
        ordered: What predictions are made of.
        skip: Groups not asked for.
        save_to: A `.keras` file to write at the end. None writes none.
    """
    found = Findings()

    def note(group: str, task: Callable[[], Arrays]) -> None:
        if group in skip:
            return
        try:
            found.arrays |= task()
        except Exception as error:
            if trial.strategy is not None:
                raise
            found.missing[group] = f"one device raises {first_sentence(error)}"

    trial.say("gradients of the first step")
    note("gradients", lambda: first_step(trial, initial, batches))
    model, *_ = new_model(trial, initial, batches[0])
    trial.say(f"{trial.steps} steps of training")
    found.arrays |= _train(trial, model, batches)
    trial.say("save, predict, evaluate")
    if save_to is not None:  # first: a layer of the user's own may move its state whenever called
        note("file", lambda: _save(model, save_to))
    note("predictions", lambda: _predict(model, ordered))
    note("evaluate", lambda: _evaluate(model, batches))
    return found


def _train(trial: Trial, model: Any, batches: Sequence[Batch]) -> Arrays:
    size = model.steps_per_execution
    if trial.strategy is None:
        model.steps_per_execution = 1
    logs = _ExecutionLogs()
    # An epoch an execution: at its end logs are exact under every strategy.
    model.fit(
        as_dataset(batches).repeat(),
        steps_per_epoch=size,
        epochs=math.ceil(trial.steps / size),
        callbacks=[logs],
        shuffle=False,
        verbose=0,
    )
    found = {
        name if name == "loss" else f"metrics/{name}": np.array(values)
        for name, values in logs.values.items()
    }
    found |= {f"weights/{i} {v.path}": _value(v) for i, v in enumerate(model.weights)}
    for number, optimizer in enumerate(_optimizers(model)):
        iterations = _value(optimizer.iterations)
        if iterations == 0:  # compile() gives every model one, whether its step uses it or not
            continue
        found[f"iterations/{number}"] = iterations
        seen: collections.Counter[str] = collections.Counter()
        for variable in optimizer.variables:
            # Not by the path: it tells from where a loss-scaled optimizer was built.
            name = variable.path.rpartition("/")[2]
            if variable is not optimizer.iterations:
                found[f"slots/{number}.{seen[name]} {name}"] = _value(variable)
                seen[name] += 1
    return found


def _evaluate(model: Any, batches: Sequence[Batch]) -> Arrays:
    results = model.evaluate(as_dataset(batches), return_dict=True, verbose=0)
    return {f"evaluate/{name}": np.array(value) for name, value in results.items()}


def _predict(model: Any, batches: Sequence[Batch]) -> Arrays:
    predicted = model.predict(as_dataset([(inputs_of(batch),) for batch in batches]), verbose=0)
    return {
        f"predictions/{i}": plain(np.asarray(part))
        for i, part in enumerate(keras.tree.flatten(predicted))
    }


def _save(model: Any, path: Path) -> Arrays:
    model.save(path)
    return {}


def reload(path: Path, subject: Subject, batches: Sequence[Batch]) -> Arrays:
    """Loads a `.keras` file in this process; returns the model's weights and predictions."""
    keras.backend.clear_session()
    model = keras.saving.load_model(path, custom_objects=subject.custom_objects())
    weights = {f"file/weights/{i}": _value(v) for i, v in enumerate(model.weights)}
    return weights | {f"file/{name}": value for name, value in _predict(model, batches).items()}


class _ExecutionLogs(keras.callbacks.Callback):
    """What callbacks are told at the end of each epoch's last execution.

    Not `history`: stock Keras shows 0.0 there for a loss of the user's own train_step (S13).
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[np.ndarray]] = {}
        self._last: dict[str, Any] = {}

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._last = logs or {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for name, value in self._last.items():
            self.values.setdefault(name, []).append(np.array(value, np.float64))


def _optimizers(model: Any) -> list[Any]:
    """All optimizers that `model` keeps in attributes, its own first."""
    found = [each for _, each in optimizers_by_name(model)]
    return sorted(found, key=lambda each: each is not model.optimizer)


def _value(variable: Any) -> np.ndarray:
    return plain(variable.numpy())
