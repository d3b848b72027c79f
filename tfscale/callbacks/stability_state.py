"""The state a training returns to after trouble: weights, slots, counts, and a lower rate.

And what a checkpoint keeps of the watch itself, so that a resumed run judges as the one before.
"""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import GradientWatch
from tfscale.checkpoints import schema
from tfscale.schedules import Adjustable, adjustable_schedules


class KeptState:
    """A copy, in the host's memory, of a model's and its optimizer's variables.

    A variable that is the same on all replicas is copied once, one that each replica keeps for
    itself once for each. Reading and restoring need no communication.

    Args:
        model: A built model under one of our strategies.
        steps: Training steps taken so far.
    """

    def __init__(self, model: Any, steps: int) -> None:
        self.steps = steps
        self._model = model
        self._arrays = [[copy.numpy() for copy in copies] for copies in self._copies(is_read=True)]

    def restore(self, rate_factor: float) -> None:
        """Puts every variable back, bit by bit; only the learning rate is another.

        Args:
            rate_factor: What the learning rate as it is now, which an earlier roll-back may have
                lowered since this state was kept, is multiplied by. 1 leaves it as it is.
        """
        optimizer = self._model.optimizer
        rate = optimizer.learning_rate
        constant = float(rate.value.numpy()) if isinstance(rate, keras.Variable) else None
        for copies, arrays in zip(self._copies(is_read=False), self._arrays, strict=True):
            for copy, array in zip(copies, itertools.cycle(arrays), strict=False):
                copy.assign(array)
        if constant is not None:
            optimizer.learning_rate.assign(constant * rate_factor)
        elif rate_factor != 1:
            for schedule in adjustable_rates(optimizer):
                schedule.factor *= rate_factor

    def _copies(self, is_read: bool) -> list[list[Any]]:
        """Every variable's copies on the replicas; to read, one of those that are alike."""
        strategy = self._model.distribute_strategy
        found = []
        for variable in (*self._model.variables, *self._model.optimizer.variables):
            value = variable.value
            copies = list(strategy.experimental_local_results(value))
            are_alike = value.synchronization != tf.VariableSynchronization.ON_READ
            found.append(copies[:1] if is_read and are_alike else copies)
        return found


def adjustable_rates(optimizer: Any) -> list[Adjustable]:
    """Returns the schedules that lower an optimizer's rate; none where the rate is constant.

    Raises:
        ValueError: If the rate is a schedule that cannot be multiplied.
    """
    schedules = list(adjustable_schedules(optimizer))
    if not schedules and not isinstance(optimizer.learning_rate, keras.Variable):
        raise ValueError(
            "`learning_rate` of the optimizer must be a constant or an adjustable schedule to be "
            f"lowered. Received: optimizer={optimizer!r}. Build it with "
            "tfscale.schedules.adjustable(schedule), or pass rate_factor=1.0."
        )
    return schedules


def memory_of(watch: GradientWatch) -> list[Any]:
    """Returns what the next steps are judged by: the window of good ones, and their number."""
    return [variable.value.numpy().tolist() for variable in watch.memory]


def restore_memory(watch: GradientWatch, memory: list[Any]) -> None:
    """Puts back what `memory_of` returned.

    Raises:
        ValueError: If it is anything else, or the window is of another length.
    """
    variables = watch.memory
    if len(memory) != len(variables):
        raise schema.malformed("state.memory", f"a list of {len(variables)}", memory)
    arrays = [_numbers(value, f"state.memory[{i}]") for i, value in enumerate(memory)]
    for variable, value in zip(variables, arrays, strict=True):
        if value.ndim != len(variable.shape):
            raise schema.malformed("state.memory", "windows and counts", memory)
        if value.shape != tuple(variable.shape):
            raise ValueError(
                "`window` must be that of the run that was checkpointed. Received: "
                f"window={variable.shape[0]}, in the checkpoint {len(value)}. Pass that."
            )
    for variable, value in zip(variables, arrays, strict=True):
        variable.assign(value.astype(variable.dtype))


def _numbers(value: Any, where: str) -> np.ndarray[Any, Any]:
    """Returns a count, or a window of numbers, as an array."""
    if not isinstance(value, list):
        return np.asarray(schema.integer(value, where))
    return np.asarray([schema.number(one, f"{where}[{i}]") for i, one in enumerate(value)])
