"""The cost law of a training step, fitted to measured times by non-negative least squares.

    t(P, R, W) = a + b sqrt(P) + c P + (d + e P) (R - 1) + (f + g P) (W - 1)

with P parameters of the model, R replicas of one process and W workers of one host, and a global
batch that does not change. No term can be negative, because none of them saves time:

| term | what it is |
|---|---|
| a | calling the step: Python, the runtime's dispatch, reading a batch |
| b sqrt(P) | activations: a layer's width is proportional to sqrt(P) |
| c P | matrix products, which read every weight, and the optimizer's update |
| d (R - 1), f (W - 1) | starting a replica, and the latency of a worker's part in an all-reduce |
| e P (R - 1), g P (W - 1) | reducing another copy of the gradients, and updating another copy |

The relative errors are minimized and not the errors, because times of models from 10^4 to 10^8
parameters differ by more than a thousand times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TERMS = ("a", "b", "c", "d", "e", "f", "g")


@dataclass(frozen=True)
class Setup:
    """What a step is taken with.

    Attributes:
        parameters: Of the model. Positive.
        replicas: Of one process. Positive.
        workers: On one host. Positive.
    """

    parameters: float
    replicas: int = 1
    workers: int = 1

    def terms(self) -> tuple[float, ...]:
        """Returns what the coefficients are multiplied by, in the order of `TERMS`."""
        size, replicas, workers = self.parameters, self.replicas - 1, self.workers - 1
        return (
            *(1.0, math.sqrt(size), size),
            *(replicas, size * replicas),
            *(workers, size * workers),
        )


@dataclass(frozen=True)
class CostLaw:
    """A fitted law.

    Attributes:
        coefficients: By term. Not negative. Terms without data are 0.
    """

    coefficients: Mapping[str, float]

    def time(self, setup: Setup) -> float:
        """Returns the time that the law predicts, in the unit of the fitted times.

        Example:
            >>> CostLaw({"a": 0.5, "c": 1e-6, "f": 2.0}).time(Setup(1e6, workers=2))
            3.5
        """
        pairs = zip(TERMS, setup.terms(), strict=True)
        return math.fsum(self.coefficients.get(name, 0.0) * value for name, value in pairs)

    def __str__(self) -> str:
        """Returns the law as a formula, without terms that are 0."""
        factors = ("", "sqrt(P)", "P", "(R-1)", "P (R-1)", "(W-1)", "P (W-1)")
        parts = [
            f"{self.coefficients[name]:.3g} {factor}".strip()
            for name, factor in zip(TERMS, factors, strict=True)
            if self.coefficients.get(name, 0.0) > 0
        ]
        return f"t = {' + '.join(parts) or '0'}"

    def to_json(self) -> dict[str, Any]:
        """Returns the coefficients and the formula."""
        return {"coefficients": dict(self.coefficients), "formula": str(self)}


def fitted(times: Mapping[Setup, float]) -> CostLaw:
    """Fits a law to measured times.

    Args:
        times: Measured time by setup. Positive. At least as many as there are terms that are not
            0 in all of them: three for one device, two more each for replicas and workers.

    Raises:
        ValueError: If there are too few times.
    """
    import numpy as np

    matrix = np.array([setup.terms() for setup in times], float).reshape(-1, len(TERMS))
    measured = np.array(list(times.values()), float)
    used = np.flatnonzero(matrix.any(axis=0))
    scaled = matrix[:, used] / matrix[:, used].max(axis=0, initial=0.0)
    if len(times) < 3 or np.linalg.matrix_rank(scaled) < len(used):
        raise ValueError(
            f"`times` must determine {len(used) or 3} terms. Received: {len(times)} setups. "
            "Measure more sizes of the model, each with several replicas or workers."
        )
    relative = matrix[:, used] / measured[:, None]
    coefficients = non_negative_least_squares(relative, np.ones(len(times)))
    return CostLaw({TERMS[i]: float(value) for i, value in zip(used, coefficients, strict=True)})


def residuals(law: CostLaw, times: Mapping[Setup, float]) -> list[float]:
    """Returns the relative errors of a law: predicted divided by measured, minus 1.

    Example:
        >>> residuals(CostLaw({"a": 3.0}), {Setup(1e4): 2.0})
        [0.5]
    """
    return [law.time(setup) / measured - 1 for setup, measured in times.items()]


def non_negative_least_squares(matrix: Any, target: Sequence[float] | Any) -> Any:
    """Returns the x >= 0 for which |matrix x - target| is smallest.

    Args:
        matrix: float [rows, columns] of full column rank.
        target: float [rows].

    Returns:
        float64 [columns].

    Source: Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23 (algorithm NNLS).
    """
    import numpy as np

    matrix = np.asarray(matrix, float)
    scale = np.linalg.norm(matrix, axis=0)  # sizes of the columns differ by many powers of ten
    matrix = matrix / scale
    x = np.zeros(matrix.shape[1])
    free = np.zeros(matrix.shape[1], bool)
    tolerance = 1e-12 * np.linalg.norm(target)
    for _ in range(10 * len(x)):  # enough unless rounding makes a column come and go
        gradient = matrix.T @ (target - matrix @ x)
        if free.all() or gradient[~free].max() <= tolerance:
            break
        free[np.argmax(np.where(free, -np.inf, gradient))] = True
        while True:
            solution = np.zeros_like(x)
            solution[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
            if (solution[free] > 0).all():
                break
            # Go towards the solution until the first free variable becomes 0, and fix it there.
            falling = np.flatnonzero(free & (solution <= 0))
            shares = x[falling] / np.maximum(x[falling] - solution[falling], 1e-300)
            x = np.maximum(0.0, x + (solution - x) * shares.min())
            free[falling[shares == shares.min()]] = False
            x[~free] = 0.0
        x = solution
    return x / scale
