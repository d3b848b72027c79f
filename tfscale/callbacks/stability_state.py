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
    """A copy of a model's and its optimizer's variables in host memory.

    A variable that is equal on all replicas is copied once; a variable with separate values per
    replica is copied for each. Reading and restoring need no communication.

    Args:
        model: A built model under a tfscale strategy.
        steps: Training steps so far.
    """

    def __init__(self, model: Any, steps: int) -> None:
        self.steps = steps
        self._model = model
        self._arrays = [[copy.numpy() for copy in copies] for copies in self._copies(is_read=True)]

    def restore(self, rate_factor: float) -> None:
        """Restores every variable, bit by bit, except for the learning rate.

        Args:
            rate_factor: Multiplier for the current learning rate, which an earlier roll-back may
                have reduced since this state was kept. 1 does not change it.
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
        """Returns every variable's copies on the replicas; to read, only one of equal copies."""
        strategy = self._model.distribute_strategy
        found = []
        for variable in (*self._model.variables, *self._model.optimizer.variables):
            value = variable.value
            copies = list(strategy.experimental_local_results(value))
            are_alike = value.synchronization != tf.VariableSynchronization.ON_READ
            found.append(copies[:1] if is_read and are_alike else copies)
        return found


def adjustable_rates(optimizer: Any) -> list[Adjustable]:
    """Returns the adjustable schedules of an optimizer, or an empty list for a constant rate.

    Raises:
        ValueError: If the rate is a schedule that is not adjustable.
    """
    schedules = list(adjustable_schedules(optimizer))
    if not schedules and not isinstance(optimizer.learning_rate, keras.Variable):
        raise ValueError(
            "`learning_rate` of the optimizer must be a constant or an adjustable schedule for "
            f"roll-backs. Received: optimizer={optimizer!r}. Build it with "
            "tfscale.schedules.adjustable(schedule), or pass rate_factor=1.0."
        )
    return schedules


def memory_of(watch: GradientWatch) -> list[Any]:
    """Returns the data behind the median: the window of good steps, and their number."""
    return [variable.value.numpy().tolist() for variable in watch.memory]


def restore_memory(watch: GradientWatch, memory: list[Any]) -> None:
    """Restores what `memory_of` returned.

    Raises:
        ValueError: If it is malformed, or the window has another length.
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
                "`window` must be that of the checkpointed run. Received: "
                f"window={variable.shape[0]}, in the checkpoint {len(value)}. Pass "
                f"window={len(value)}."
            )
    for variable, value in zip(variables, arrays, strict=True):
        variable.assign(value.astype(variable.dtype))


def _numbers(value: Any, where: str) -> np.ndarray[Any, Any]:
    """Returns a count, or a window of numbers, as an array."""
    if not isinstance(value, list):
        return np.asarray(schema.integer(value, where))
    return np.asarray([schema.number(one, f"{where}[{i}]") for i, one in enumerate(value)])
