"""Measures in `fit` how long training waits for its input."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import keras

from strategies import is_chief
from strategies.extension import (
    Progress,
    all_on,
    announce,
    attach_clock,
    exchange,
    is_multi_worker,
    timed_progress,
    truth,
    whole_number,
)
from tfscale.data.diagnosis.waiting import Waiting, Window, waiting_of
from tfscale.synchronous_training import require_synchronous

_FIRST_STEPS = 32
"""Steps after which the figures are looked at first; then after twice as many, and so on."""
_FEWEST_STEPS = 8
_ENOUGH_SECONDS = 2.0
_SAMPLES = 4
_WORKING = ("input", "step", "collective", "callbacks", "trace")
_CURE = "To find the slow stage: tfscale data bench MODULE:FUNCTION"


class InputWait(keras.callbacks.Callback):
    """Says once whether training waits for its input, with figures.

        tfscale: input-bound: 63% of the time waits for input: 12.1 of 19.2 ms a step. To find the
        slow stage: tfscale data bench MODULE:FUNCTION

    Marks in the graph of the step measure the time from asking for a batch to having it. So the
    figures are right with several replicas and with `steps_per_execution`. If several workers
    train, they exchange their times, and the chief names the one whose input is slowest: the others
    wait for it in the all-reduce. Where a device computes while its host already waits for the next
    batch, that wait costs nothing: four steps are then awaited one by one, and only what exceeds
    the computation counts.

    It speaks after 2 s of training and 32 steps, or when training ends. The first execution, which
    traces the step, is not counted. Input-bound means that at least 10% of the time is lost and a
    step takes at least 1 ms. It costs tens of microseconds a step. Pass it on all workers.

    Attributes:
        waiting: What was measured (`part`, `worker`, `is_input_bound`, `text`); None before.

    Args:
        verbose: 0 prints nothing, 1 a line if training is input-bound, 2 a line in any case.
        in_logs: Whether the logs of each epoch contain `input_wait`, the part of the epoch's time
            that waits for input, in [0, 1]. Then workers exchange their times at each end.

    Raises:
        ValueError: If an argument is out of range. When training begins, if the model is not under
            a tfscale strategy, or trains asynchronously.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> history = model.fit(
        ...     rows, targets, callbacks=[InputWait(in_logs=True)], epochs=2, verbose=0
        ... )
        >>> 0 <= history.history["input_wait"][-1] <= 1
        True
    """

    needs_every_worker = True  # its methods exchange messages between workers
    needs_every_batch = False  # the graph measures

    def __init__(self, *, verbose: int = 1, in_logs: bool = False) -> None:
        super().__init__()
        self.verbose = whole_number("verbose", verbose, at_least=0, below=3, cure="Use 0, 1 or 2.")
        self.in_logs = truth("in_logs", in_logs)
        self.waiting: Waiting | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to measure."""
        strategy = self.model.distribute_strategy
        cure = "Measure one worker's input: tfscale data bench."
        require_synchronous(self.model, "InputWait", cure)
        self.waiting = None
        self._clock = attach_clock(self.model)
        self._progress: Progress | None = None
        self._awaits = not all_on("CPU", strategy)
        self._begin: _Mark | None = None  # Where the current window begins.
        self._epoch: _Mark | None = None  # Where the epoch begins, or its first full step.
        self._executions = self._steps = self._in_epoch = 0
        self._due = _FIRST_STEPS
        self._sampled: list[float] = []
        self._awaited: tuple[int, float, float] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins the figures of an epoch."""
        self._progress = timed_progress(self._clock)
        self._epoch = self._mark() if self._begin is not None else None
        self._in_epoch = -1

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts steps; looks at the figures when enough have been done."""
        self._steps += batch - self._in_epoch if self._in_epoch >= 0 else 0
        self._in_epoch = batch
        self._executions += 1
        if self._begin is None:
            if self._executions > 1:
                self._begin = self._epoch = self._mark()
            return
        if self._awaits and len(self._sampled) < _SAMPLES:
            self._sample()
        if self.waiting is None and self._steps - self._begin.steps >= self._due:
            self._due *= 2
            self._judge(self._begin, _ENOUGH_SECONDS)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the part that waited to the logs, if asked for."""
        if self._in_epoch >= 0 and self._begin is not None:
            steps = (self.params or {}).get("steps")
            self._steps += max(0, steps - self._in_epoch) if steps else 1
        self._in_epoch = -1
        self._awaited = None
        if self.in_logs and logs is not None:
            logs["input_wait"] = self._part(self._epoch)
        if self.waiting is None and self._begin is not None:
            self._judge(self._begin, _ENOUGH_SECONDS)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Judges a short training by what was measured."""
        if self.waiting is None and self._begin is not None:
            self._judge(self._begin, 0.0)

    def _judge(self, since: _Mark, enough: float) -> None:
        windows = self._windows(since)
        if windows is None or windows[0].seconds < enough or windows[0].steps < _FEWEST_STEPS:
            return
        self.waiting = waiting_of(windows)
        least = 1 if self.waiting.is_input_bound else 2
        if self.verbose >= least and is_chief(self.model.distribute_strategy):
            cure = f". {_CURE}" if self.waiting.is_input_bound else ""
            announce(f"{self.waiting.text}{cure}")

    def _part(self, since: _Mark | None) -> float:
        windows = self._windows(since)
        return 0.0 if windows is None else waiting_of(windows).part

    def _windows(self, since: _Mark | None) -> list[Window] | None:
        """Returns the windows of all workers, or None if one of them has no step."""
        own = None if since is None else self._window(since)
        strategy = self.model.distribute_strategy
        if not is_multi_worker(strategy):
            return None if own is None else [own]
        said = json.dumps(own and dataclasses.asdict(own))
        answers = [json.loads(each) for each in exchange(strategy, "waits for input", said)]
        return None if None in answers else [Window(**answer) for answer in answers]

    def _window(self, since: _Mark) -> Window | None:
        now = self._mark()
        steps = now.steps - since.steps
        spent = {phase: now.seconds[phase] - since.seconds[phase] for phase in _WORKING}
        seconds = sum(spent.values())
        if steps < 1 or seconds <= 0:
            return None
        computing = None
        if self._awaits and self._sampled:
            computing = steps * min(self._sampled)
        return Window(steps, seconds, max(0.0, spent["input"]), computing)

    def _mark(self) -> _Mark:
        assert self._progress is not None
        return _Mark(self._steps, self._progress.seconds())

    def _sample(self) -> None:
        """Awaits an execution: what it takes without its wait for input is computation."""
        smallest = min(
            self.model.trainable_variables, key=lambda variable: variable.shape.num_elements()
        )
        smallest.numpy()
        moment, waited = time.perf_counter(), self._mark().seconds["input"]
        if self._awaited is not None:
            steps, began, before = self._awaited
            if self._steps > steps:
                took = moment - began - (waited - before)
                self._sampled.append(max(0.0, took) / (self._steps - steps))
        self._awaited = (self._steps, moment, waited)


@dataclasses.dataclass(frozen=True)
class _Mark:
    """A moment between two executions: the steps before it, and the seconds of each phase."""

    steps: int
    seconds: dict[str, float]
