"""Iterative methods for least squares, each with its tolerance.

| name | step | tolerance |
|---|---|---|
| gradient_descent | from all rows, gathered over an epoch | the rate's own bound |
| sgd | from a global batch, rates falling as 1 / t | the mean squared bound |
| adam | from a global batch, rates falling along a cosine | that of sgd, not proven |
| averaged | from a replica batch, with regular means | that of sgd, for a replica batch |

The bounds are in `recipes.regression.convergence`. Adam has none: Reddi, Kale and Kumar 2018,
arXiv:1904.09237.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import tfscale
from recipes.regression.build import linear_model
from recipes.regression.convergence import Landscape
from recipes.regression.least_squares import LeastSquares

NAMES = ("gradient_descent", "sgd", "adam", "averaged")

# Rounding, in units of the condition number and the last place; the runs so far stay below 1.
_ROUNDING = 100.0
_STEPS_PER_EXECUTION = 64


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        name: For flags, tables and files.
        optimizer: Makes the optimizer, inside the strategy's scope.
        steps: Updates of the parameters in the whole training.
        steps_per_execution: Keras's argument of that name.
        average_every: Steps between two means of replicas that step independently; None for
            synchronous steps.
        tolerance: Largest accepted distance to the solution, in lengths of the solution.
    """

    name: str
    optimizer: Callable[[], keras.optimizers.Optimizer]
    steps: int
    steps_per_execution: int
    average_every: int | None
    tolerance: float


@dataclass(frozen=True)
class Outcome:
    """The result of a method.

    Attributes:
        method: The method.
        coefficients: The trained coefficients, float64 [num_features].
        distances: Distance to the solution before training and after each epoch, in lengths of the
            solution.
        loss_gap: Loss above the minimum.
        seconds: Time of training, including tracing.
    """

    method: Method
    coefficients: np.ndarray
    distances: list[float]
    loss_gap: float
    seconds: float

    @property
    def is_reached(self) -> bool:
        """Whether the result is within the tolerance."""
        return self.distances[-1] <= self.method.tolerance

    def record(self) -> dict[str, Any]:
        """Returns the outcome as JSON values."""
        return {
            "steps": self.method.steps,
            "distance": self.distances[-1],
            "tolerance": self.method.tolerance,
            "is_reached": self.is_reached,
            "loss_gap": self.loss_gap,
            "seconds": self.seconds,
            "coefficients": self.coefficients.tolist(),
            "distances": self.distances,
        }


def planned(
    landscape: Landscape,
    *,
    steps_per_epoch: int,
    epochs: int,
    global_batch_size: int,
    num_replicas: int,
    average_every: int,
    adam_rate: float,
    epsilon: float,
) -> dict[str, Method]:
    """Plans all methods for a problem, by name; training starts at coefficients of 0.

    Args:
        landscape: That of the problem.
        steps_per_epoch: Global batches per epoch, all of one size.
        epochs: Passes over the rows. Positive.
        global_batch_size: Rows of a global batch.
        num_replicas: Replicas of all workers.
        average_every: Steps between two means of "averaged"; 1 is synchronous SGD.
        adam_rate: Learning rate of Adam's first step.
        epsilon: Distance between 1 and the next number that the model computes in.
    """
    steps = epochs * steps_per_epoch
    together = min(steps_per_epoch, _STEPS_PER_EXECUTION)
    rounding = _ROUNDING * epsilon * landscape.largest / landscape.smallest
    # A mean after each step is the step of the whole batch; otherwise a step sees a replica batch.
    rows_of_step = global_batch_size / (1 if average_every == 1 else num_replicas)

    def stochastic(name: str, rows: float, every: int | None) -> Method:
        first, decay = landscape.stochastic_rate(rows)
        bound = landscape.stochastic_distance(1.0, rows, lambda t: first / (1 + decay * t), steps)
        # With NumPy's float64, Keras computes the schedule in float64.
        schedule = keras.optimizers.schedules.InverseTimeDecay(np.float64(first), 1, decay)
        return Method(
            name=name,
            optimizer=functools.partial(keras.optimizers.SGD, schedule),
            steps=steps,
            steps_per_execution=together if every is None else _execution(every, steps_per_epoch),
            average_every=every,
            tolerance=bound + rounding,
        )

    sgd = stochastic("sgd", global_batch_size, None)
    cosine = keras.optimizers.schedules.CosineDecay(np.float64(adam_rate), steps)
    descent = Method(
        name="gradient_descent",
        optimizer=functools.partial(
            keras.optimizers.SGD,
            landscape.descent_rate,
            # All rows of an epoch make one step, without being in memory at the same time.
            gradient_accumulation_steps=steps_per_epoch if steps_per_epoch > 1 else None,
        ),
        steps=epochs,
        steps_per_execution=together,
        average_every=None,
        tolerance=landscape.descent_distance(epochs) + rounding,
    )
    adam = Method(
        name="adam",
        optimizer=functools.partial(keras.optimizers.Adam, cosine),
        steps=steps,
        steps_per_execution=together,
        average_every=None,
        tolerance=sgd.tolerance,
    )
    all_four = [descent, sgd, adam, stochastic("averaged", rows_of_step, average_every)]
    return {method.name: method for method in all_four}


def _execution(every: int, steps_per_epoch: int) -> int:
    """The largest divisor of `every` that is not above the usual steps of an execution."""
    most = min(every, steps_per_epoch, _STEPS_PER_EXECUTION)
    return next(size for size in range(most, 0, -1) if every % size == 0)


class _Distances(keras.callbacks.Callback):
    """Records the distance to the solution at the end of each epoch."""

    def __init__(self, solution: LeastSquares) -> None:
        super().__init__()
        self.solution = solution
        self.recorded: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.recorded.append(self.solution.distance(self.model.get_weights()[0]))


def train(
    method: Method,
    batches: tfscale.data.Pipeline,
    solution: LeastSquares,
    *,
    epochs: int,
) -> Outcome:
    """Trains a linear model from coefficients of 0.

    Args:
        method: The method.
        batches: All rows once per epoch; has the strategy to train under.
        solution: The solution to compare with.
        epochs: Passes over the rows. Positive.
    """
    started = time.monotonic()
    with batches.strategy.scope():
        model = linear_model(
            len(solution.coefficients), method.optimizer(), method.steps_per_execution
        )
    distances = _Distances(solution)
    callbacks: list[keras.callbacks.Callback] = [distances]
    if method.average_every is not None:
        # First, so that `distances` sees the mean.
        callbacks.insert(0, tfscale.callbacks.LocalUpdates(method.average_every))
    model.fit(batches, epochs=epochs, callbacks=callbacks, verbose=0)
    coefficients = np.ravel(model.get_weights()[0]).astype(np.float64)
    start = solution.distance(np.zeros_like(coefficients))
    return Outcome(
        method=method,
        coefficients=coefficients,
        distances=[start, *distances.recorded],
        loss_gap=solution.loss_gap(coefficients),
        seconds=time.monotonic() - started,
    )


HEADING = (
    f"{'optimizer':<16}  {'steps':>8}  {'distance':>9}  {'tolerance':>9}  {'loss gap':>9}"
    f"  {'seconds':>7}"
)


def table_line(outcome: Outcome) -> str:
    """Returns an outcome as a line of the table under `HEADING`."""
    method = outcome.method
    end = "" if outcome.is_reached else "  tolerance missed"
    return (
        f"{method.name:<16}  {method.steps:>8}  {outcome.distances[-1]:>9.2e}"
        f"  {method.tolerance:>9.2e}  {outcome.loss_gap:>9.2e}  {outcome.seconds:>7.1f}{end}"
    )


def reading(outcome: Outcome) -> str:
    """Returns an outcome as a sentence."""
    method, distance = outcome.method, outcome.distances[-1]
    kept = "within" if outcome.is_reached else "outside"
    return (
        f"{method.name}: distance {distance:.2e} to the least-squares solution after "
        f"{method.steps:,} steps, {kept} its tolerance of {method.tolerance:.2e}."
    )
