"""Builds the user's model for a trial: the same weights each time, without random layers."""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfscale.verify.batches import (
    Batch,
    as_dataset,
    as_tensor,
    inputs_of,
    mapped,
    num_rows,
    with_rows,
)
from tfscale.verify.layers import switch_off_random_layers
from tfscale.verify.parallel_model import (
    Parallel,
    arrange,
    state_of,
    trained_by,
    whole_variables,
)
from tfscale.verify.user_model import UserModel, WrongUsage, first_sentence


@dataclass(frozen=True)
class Trial:
    """How the user's model is trained.

    Attributes:
        user_model: The user's function.
        strategy: The strategy, or None for stock Keras on one device.
        steps: Optimizer steps, rounded up to whole executions (`steps_per_execution`). Positive.
        is_float64: Whether Keras's default float is set to float64 before the function is called.
        seed: Seed of Keras, NumPy and Python. Not negative.
        say: Called with each line of progress.
        parallel: How the devices of a replica share the model, or None for one device each.
    """

    user_model: UserModel
    strategy: tf.distribute.Strategy | None
    steps: int
    is_float64: bool
    seed: int
    say: Callable[[str], None]
    parallel: Parallel | None = None


def new_model(trial: Trial, initial: Sequence[np.ndarray] | None, batch: Batch | None) -> Any:
    """Builds a new model, with random layers switched off and the given weights.

    Args:
        trial: How to train.
        initial: Values of `model.weights`, or None to keep the initial ones; then the model is not
            shared by devices.
        batch: A batch to build the model with if it is not built, or None.

    Returns:
        The model, its data, the names of layers that were switched off, and of layers that still
        draw random numbers.
    """
    keras.backend.clear_session()
    if trial.is_float64:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(trial.seed)
    scope = trial.strategy.scope() if trial.strategy else contextlib.nullcontext()
    with scope:
        model, data = trial.user_model.build()
        if model.distribute_strategy is not (trial.strategy or tf.distribute.get_strategy()):
            raise WrongUsage(
                f"`{trial.user_model.target}` must not use a strategy. Received: a model under "
                f"{type(model.distribute_strategy).__name__}. Choose the strategy with --strategy."
            )
        switched, drawing = switch_off_random_layers(model)
        if batch is not None:
            _build(model, batch)
        if initial is not None:
            _set_weights(trial, model, initial)
            if trial.parallel is not None:
                arrange(model, trial.parallel)
    return model, data, switched, drawing


def _build(model: Any, batch: Batch) -> None:
    """Creates the weights by a call on one row.

    A model that cannot be called, such as one whose `train_step` does everything, creates the
    remaining weights in its first step. They are equal in each trial because they are seeded.
    """
    if model.built:
        return
    row = mapped(as_tensor, inputs_of(with_rows(batch, [0])))
    with contextlib.suppress(Exception):
        model(row)


def _set_weights(trial: Trial, model: Any, values: Sequence[np.ndarray]) -> None:
    shapes = [tuple(variable.shape) for variable in model.weights]
    if shapes != [value.shape for value in values]:
        raise WrongUsage(
            f"`{trial.user_model.target}` must build the same model at each call. Received: "
            f"weights of shapes {shapes}, earlier {[value.shape for value in values]}. Make sizes "
            "constant."
        )
    for variable, value in zip(model.weights, values, strict=True):
        variable.assign(value)


def plain(array: np.ndarray) -> np.ndarray:
    """Returns bfloat16 as float32, because the comparing process does not know bfloat16."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else np.asarray(array)


RATE = 2.0**-10  # dividing by it is exact


def first_step(
    trial: Trial, initial: Sequence[np.ndarray], batches: Sequence[Batch]
) -> dict[str, np.ndarray]:
    """Returns the gradients of the first step, by optimizer, and other variables after it.

    The gradient is read from an optimizer's momentum: momentum = 0.5 * momentum - rate * gradient.
    If the last batch has another size, a second step on it gives `gradients/+0 ...`.

    Args:
        trial: How to train.
        initial: Values of `model.weights` to start from.
        batches: The batches. The first and the last are used.

    Raises:
        ValueError: If the step uses no optimizer that is an attribute of the model.
    """
    model, *_ = new_model(trial, initial, batches[0])
    with trial.strategy.scope() if trial.strategy else contextlib.nullcontext():
        for name, _ in optimizers_by_name(model):
            setattr(model, name, keras.optimizers.SGD(RATE, momentum=0.5))
    model.steps_per_execution = 1
    is_uneven = num_rows(batches[-1]) != num_rows(batches[0])
    kept = _Slots(trial.parallel)
    model.fit(
        as_dataset([batches[0], *(batches[-1:] if is_uneven else [])]),
        callbacks=[kept],
        shuffle=False,
        verbose=0,
    )
    used = _used_optimizers(model)
    if not used:
        raise ValueError("the step uses no optimizer that is an attribute of the model")
    with whole_variables(model, trial.parallel):
        names = [
            f"{number}.{i} {variable.path}"
            for number, optimizer in enumerate(used)
            for i, variable in enumerate(trained_by(optimizer, model, trial.parallel))
        ]
        weights = list(model.weights)
        trained = {id(variable) for variable in model.trainable_variables}
    first, *second = kept.after_steps
    found = {f"gradients/{name}": -slot / RATE for name, slot in zip(names, first, strict=True)}
    for slots in second:
        for name, before, slot in zip(names, first, slots, strict=True):
            found[f"gradients/+{name}"] = (0.5 * before - slot) / RATE
    return found | {
        f"statistics/{i} {v.path}": plain(v.numpy())
        for i, v in enumerate(weights)
        if id(v) not in trained
    }


def optimizers_by_name(model: Any) -> Iterator[tuple[str, Any]]:
    """Yields the optimizers that are attributes of `model`, each once."""
    seen = set()
    for name, value in vars(model).items():
        if isinstance(value, keras.optimizers.Optimizer) and id(value) not in seen:
            seen.add(id(value))
            yield name, value


class _Slots(keras.callbacks.Callback):
    """Records the momentum of the model's optimizers after each step."""

    def __init__(self, parallel: Parallel | None) -> None:
        super().__init__()
        self._parallel = parallel
        self.after_steps: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        slots = [
            plain(value)
            for optimizer in _used_optimizers(self.model)
            for path, value in state_of(optimizer, self.model, self._parallel)
            if path.endswith("_momentum")
        ]
        self.after_steps.append(slots)


def _used_optimizers(model: Any) -> list[Any]:
    """Returns the optimizers that took a step. `compile` sets one even if the step ignores it."""
    return [each for _, each in optimizers_by_name(model) if int(each.iterations.numpy()) > 0]


Arrays = dict[str, np.ndarray]
"""Results by name: `loss`, `weights/3 dense/kernel`, `predictions/0`, ..."""


@dataclass
class Findings:
    """The results of a training.

    Attributes:
        arrays: The results to compare, by name.
        missing: Groups that one device could not produce, and why.
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
    """Trains and records all results.

    Without a strategy, a group whose computation raises is recorded as missing: the cause is Keras
    or the model, so strategies are not compared in it. Errors of the training itself are raised.
    The reference takes one step per execution, which must not change the results.

    Args:
        trial: How to train.
        initial: Values of `model.weights` to start from.
        batches: The training batches, used in order and repeatedly.
        ordered: The batches for predictions.
        skip: Groups to leave out.
        save_to: A `.keras` file to write at the end, or None.
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
    if save_to is not None:  # first, because a custom layer may change its state at every call
        note("file", lambda: _save(model, save_to))
    note("predictions", lambda: _predict(model, ordered))
    note("evaluate", lambda: _evaluate(trial, model, batches))
    return found


def _train(trial: Trial, model: Any, batches: Sequence[Batch]) -> Arrays:
    size = model.steps_per_execution
    if trial.strategy is None:
        model.steps_per_execution = 1
    logs = _ExecutionLogs()
    # One epoch per execution: at the end of an epoch logs are exact under every strategy.
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
    with whole_variables(model, trial.parallel):
        found |= {f"weights/{i} {v.path}": _value(v) for i, v in enumerate(model.weights)}
    for number, optimizer in enumerate(_optimizers(model)):
        iterations = _value(optimizer.iterations)
        if iterations == 0:  # compile() sets one even if the step ignores it
            continue
        found[f"iterations/{number}"] = iterations
        seen: collections.Counter[str] = collections.Counter()
        for path, value in state_of(optimizer, model, trial.parallel):
            # Not by the path, which depends on where a loss-scaled optimizer was built.
            name = path.rpartition("/")[2]
            if path != optimizer.iterations.path:
                found[f"slots/{number}.{seen[name]} {name}"] = plain(value)
                seen[name] += 1
    return found


def _evaluate(trial: Trial, model: Any, batches: Sequence[Batch]) -> Arrays:
    if trial.strategy is None:
        # Of a step by itself Keras 3.16 traces the rows of the first batch. In the loss of one of
        # several outputs such a batch then counts as often as it has rows, and others count once.
        # In an execution of two steps each counts once, as before and under all our strategies.
        model.steps_per_execution = 2
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


def reload(path: Path, user_model: UserModel, batches: Sequence[Batch]) -> Arrays:
    """Loads a `.keras` file in this process and returns the model's weights and predictions."""
    keras.backend.clear_session()
    model = keras.saving.load_model(path, custom_objects=user_model.custom_objects())
    weights = {f"file/weights/{i}": _value(v) for i, v in enumerate(model.weights)}
    return weights | {f"file/{name}": value for name, value in _predict(model, batches).items()}


class _ExecutionLogs(keras.callbacks.Callback):
    """Records the logs at the end of each epoch's last execution.

    Not `history`, where stock Keras shows 0.0 for the loss of a custom train_step (S13).
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
    """Returns all optimizers that are attributes of `model`, the compiled one first."""
    found = [each for _, each in optimizers_by_name(model)]
    return sorted(found, key=lambda each: each is not model.optimizer)


def _value(variable: Any) -> np.ndarray:
    return plain(variable.numpy())
