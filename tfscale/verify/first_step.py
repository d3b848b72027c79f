"""The first step of a training, with optimizers that keep the gradients they are given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from strategies.extension import optimized_variables
from tfscale.verify.batches import Batch, as_dataset, num_rows
from tfscale.verify.model import Trial, new_model, plain

RATE = 2.0**-10  # dividing by it is exact


def first_step(
    trial: Trial, initial: Sequence[np.ndarray], batches: Sequence[Batch]
) -> dict[str, np.ndarray]:
    """Returns the gradients of the first step, by optimizer, and other variables after it.

    Steps of an optimizer that keeps the gradient: momentum = 0.5 * momentum - rate * gradient. The
    second step, on the last batch where that is of another size, is kept as `gradients/+0 ...`.

    Args:
        trial: How.
        initial: Values of `model.weights` to start from.
        batches: Of which the first is trained on, and the last.

    Raises:
        ValueError: If the step uses no optimizer that the model keeps in an attribute.
    """
    model, *_ = new_model(trial, initial, batches[0])
    with trial.strategy.scope() if trial.strategy else contextlib.nullcontext():
        for name, _ in optimizers_by_name(model):
            setattr(model, name, keras.optimizers.SGD(RATE, momentum=0.5))
    model.steps_per_execution = 1
    is_uneven = num_rows(batches[-1]) != num_rows(batches[0])
    kept = _Slots()
    model.fit(
        as_dataset([batches[0], *(batches[-1:] if is_uneven else [])]),
        callbacks=[kept],
        shuffle=False,
        verbose=0,
    )
    used = _used_optimizers(model)
    if not used:
        raise ValueError("the step uses no optimizer of the model's")
    names = [
        f"{number}.{i} {variable.path}"
        for number, optimizer in enumerate(used)
        for i, variable in enumerate(optimized_variables(optimizer))
    ]
    first, *second = kept.after_steps
    found = {f"gradients/{name}": -slot / RATE for name, slot in zip(names, first, strict=True)}
    for slots in second:
        for name, before, slot in zip(names, first, slots, strict=True):
            found[f"gradients/+{name}"] = (0.5 * before - slot) / RATE
    trained = {id(variable) for variable in model.trainable_variables}
    return found | {
        f"statistics/{i} {v.path}": plain(v.numpy())
        for i, v in enumerate(model.weights)
        if id(v) not in trained
    }


def optimizers_by_name(model: Any) -> Iterator[tuple[str, Any]]:
    """Yields the optimizers that `model` keeps in attributes, each once."""
    seen = set()
    for name, value in vars(model).items():
        if isinstance(value, keras.optimizers.Optimizer) and id(value) not in seen:
            seen.add(id(value))
            yield name, value


class _Slots(keras.callbacks.Callback):
    """The momentum of the model's optimizers after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.after_steps: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        slots = [slot for each in _used_optimizers(self.model) for slot in each.momentums]
        self.after_steps.append([plain(slot.numpy()) for slot in slots])


def _used_optimizers(model: Any) -> list[Any]:
    """Those that took a step: `compile` gives every model one, whether its step uses it or not."""
    return [each for _, each in optimizers_by_name(model) if int(each.iterations.numpy()) > 0]
