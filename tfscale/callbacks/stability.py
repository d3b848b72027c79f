"""Detects and undoes training steps that went wrong."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies import is_chief
from strategies.extension import (
    VERDICTS,
    GradientWatch,
    Trouble,
    announce,
    number,
    one_of,
    refuse_model_outside,
    whole_number,
    written_by_rules,
)
from tfscale.checkpoints import schema
from tfscale.schedules import Adjustable, adjustable_schedules
from tfscale.schedules.adjustable_schedule import restore_factors


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
        self._variables = [
            *model.variables,
            *model.optimizer.variables,
            *written_by_rules(model.optimizer),  # the masks of Prune
        ]
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
        for variable in self._variables:
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


ACTIONS = ("skip", "roll_back", "stop")
_DONE = {
    "skip": "The step is skipped.",
    "roll_back": "Rolled back to the state before step {kept}; rate multiplied by {rate_factor:g}.",
    "stop": "Training stops with the weights from before that step.",
}


@dataclass(frozen=True)
class StabilityEvent:
    """A step that went wrong, and the action taken.

    Attributes:
        step: Number of the step among all steps of this callback, from 0.
        kind: "loss_not_finite", "norm_not_finite", "loss_spike" or "norm_spike".
        norm: The norm of the gradient.
        loss: The loss of the global batch; NaN also if the `train_step` does not report it.
        limit: The limit that a spike exceeded, in the unit of its value; NaN otherwise.
        action: One of `ACTIONS`.
    """

    step: int
    kind: str
    norm: float
    loss: float
    limit: float
    action: str


class Stability(keras.callbacks.Callback):
    """Monitors the loss and the gradient of every step, and undoes steps that go wrong.

    A step goes wrong if its loss or the norm of its gradient is NaN or infinite, or a spike: above
    `factor` times the median m of the last `window` good steps (if m is negative, above
    m + (factor - 1) |m|). The norm is that of the complete gradient, reduced over replicas and
    unscaled, before clipping. The loss is that of the global batch. The check is part of the step
    and precedes all updates, so a wrong step changes no weight, slot, count, moving statistic or
    metric, as if its batch were not in the data. The check needs no communication, and all replicas
    and workers decide equally. `on_trouble` sets the action:

    * "skip": training continues with the next batch.
    * "roll_back": the model and the optimizer return to the last kept state, bit by bit, and the
      learning rate is multiplied by `rate_factor`. Training continues with the next batch.
    * "stop": `fit` ends, on several workers after at most 16 more executions, which change nothing.

    With dynamic loss scaling, an overflowing gradient is handled by the loss scale. With gradient
    accumulation each micro-batch counts as a step. If a custom `train_step` does not compute its
    loss as Keras does, only its gradients are monitored.

    The callback waits for each execution to see its result. `compile(steps_per_execution=)` makes
    this less frequent and changes no decision. A later `fit` with the same callback continues the
    counts. After a `fit` that raised, the model is monitored until it is compiled with a new
    optimizer.

    Attributes:
        events: A `StabilityEvent` for each step that went wrong, oldest first.

    Args:
        on_trouble: One of "skip", "roll_back", "stop".
        factor: Above 1, or None to act on NaN and inf only.
        window: Number of good steps for the median. Positive.
        warmup_steps: Number of good steps before spikes are detected. Positive.
        keep_every: For "roll_back": steps between two states that are kept in host memory, rounded
            up to executions. Positive.
        rate_factor: For "roll_back": multiplier of the learning rate. Above 0, at most 1.
        max_rollbacks: Number of roll-backs after which the next trouble stops training. Positive.

    Raises:
        ValueError: If an argument is out of range. When training begins, if the model is not built
            or not under a tfscale strategy, or "roll_back" cannot reduce its learning rate.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> watch = Stability(on_trouble="skip", factor=20)
        >>> history = model.fit(rows, targets, callbacks=[watch], verbose=0)
        >>> watch.events
        []
    """

    needs_every_worker = True  # all workers must take the same decisions

    def __init__(
        self,
        *,
        on_trouble: str = "skip",
        factor: float | None = 10.0,
        window: int = 64,
        warmup_steps: int = 32,
        keep_every: int = 100,
        rate_factor: float = 0.5,
        max_rollbacks: int = 3,
    ) -> None:
        super().__init__()
        self.on_trouble = one_of("on_trouble", on_trouble, ACTIONS)
        rule = "above 1, or None to act on NaN and inf only"
        self.factor = None if factor is None else number("factor", factor, rule, lambda f: f > 1)
        self.window = whole_number("window", window)
        self.warmup_steps = whole_number("warmup_steps", warmup_steps)
        self.keep_every = whole_number("keep_every", keep_every)
        self.rate_factor = number(
            "rate_factor", rate_factor, "above 0 and at most 1", lambda f: 0 < f <= 1
        )
        self.max_rollbacks = whole_number("max_rollbacks", max_rollbacks)
        self.events: list[StabilityEvent] = []
        self._watch: GradientWatch | None = None
        self._kept: KeptState | None = None
        self._steps = 0
        self._first = 0
        self._is_over = False

    def state(self) -> dict[str, Any]:
        """Returns the state for a checkpoint as JSON values: events, counts and the window."""
        assert self._watch is not None
        factors = [schedule.factor for schedule in adjustable_schedules(self.model.optimizer)]
        return {
            "steps": self._steps,
            "events": [vars(event) for event in self.events],
            "factors": factors,
            "memory": memory_of(self._watch),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned. A later roll-back returns at most to this point.

        Raises:
            ValueError: If `state` is malformed, or for another `window` or number of schedules.
        """
        assert self._watch is not None
        schema.record(state, "state", ("steps", "events", "factors", "memory"))
        steps = schema.integer(state["steps"], "state.steps")
        events = [
            _event(event, f"state.events[{i}]")
            for i, event in enumerate(schema.listed(state["events"], "state.events"))
        ]
        restore_memory(self._watch, schema.listed(state["memory"], "state.memory"))
        restore_factors(list(adjustable_schedules(self.model.optimizer)), state["factors"])
        self._steps, self.events = steps, events
        if self._kept is not None:
            self._kept = KeptState(self.model, self._steps)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to monitor, or raises an error if the model cannot be monitored."""
        model = self.model
        refuse_model_outside(model, "Stability")
        if not model.optimizer.built:
            raise ValueError(
                "`model` must be built before training for Stability. Received: model "
                f"{model.name!r}, which Keras cannot build automatically. Call it once on a batch, "
                "and model.optimizer.build(model.trainable_variables)."
            )
        self._is_over = False
        if self.on_trouble == "roll_back":
            if self.rate_factor < 1:
                adjustable_rates(model.optimizer)
            self._kept = KeptState(model, self._steps)
        if self._watch is None or not self._watch.is_of(model):
            self._watch = GradientWatch(
                model,
                factor=self.factor,
                window=self.window,
                warmup_steps=self.warmup_steps,
                first_step=self._steps,
                skips_after_trouble=self.on_trouble != "skip",
            )
        self._watch.attach()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the first step of the execution."""
        self._first = batch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Acts on the steps of the execution that ended."""
        assert self._watch is not None
        self._steps += batch - self._first + 1
        troubles = self._watch.new_troubles()
        for trouble in troubles:
            self._act(trouble)
        if self._kept is None or troubles or self._is_over:
            return
        if self._steps - self._kept.steps >= self.keep_every:
            self._kept = KeptState(self.model, self._steps)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stops monitoring and drops the kept state."""
        if self._watch is not None:
            self._watch.detach()
        self._kept = None

    def _act(self, trouble: Trouble) -> None:
        action = self.on_trouble
        rolled_back = sum(event.action == "roll_back" for event in self.events)
        if action == "roll_back" and rolled_back == self.max_rollbacks:
            action = "stop"
        self.events.append(StabilityEvent(**vars(trouble), action=action))
        done = _DONE[action]
        if action == "roll_back":
            assert self._watch is not None
            assert self._kept is not None
            done = done.format(kept=self._kept.steps, rate_factor=self.rate_factor)
            self._kept.restore(self.rate_factor)
            self._watch.release()
        elif action == "stop":
            self.model.stop_training = self._is_over = True
            if self.on_trouble == "roll_back":
                done = f"Already rolled back {rolled_back} times (max_rollbacks). {done}"
        if is_chief(self.model.distribute_strategy):
            announce(f"step {trouble.step}: {_described(trouble)}. {done}")


def _event(value: Any, where: str) -> StabilityEvent:
    fields = schema.record(value, where, ("step", "kind", "norm", "loss", "limit", "action"))
    for name in ("norm", "loss", "limit"):
        schema.number(fields[name], f"{where}.{name}")
    schema.integer(fields["step"], f"{where}.step")
    for name, known in (("kind", VERDICTS[1:]), ("action", ACTIONS)):
        if fields[name] not in known:
            raise schema.malformed(f"{where}.{name}", f"one of {', '.join(known)}", fields[name])
    return StabilityEvent(**fields)


def _described(trouble: Trouble) -> str:
    values = f"loss {trouble.loss:.6g}, gradient norm {trouble.norm:.6g}"
    if trouble.kind.endswith("_not_finite"):
        return f"not finite: {values}"
    name = "loss" if trouble.kind == "loss_spike" else "gradient norm"
    return f"{name} above {trouble.limit:.6g}: {values}"
