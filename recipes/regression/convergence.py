"""Bounds from theory on the distance between an optimizer and the least-squares solution.

Distances are lengths of `w - w*`. With the Hessian's eigenvalues from `smallest` to `largest`:

* Gradient descent at the rate 2 / (smallest + largest) shrinks the distance at least by
  (k - 1) / (k + 1) in each step, k = largest / smallest (Nesterov 2004, theorem 2.1.15).
* A step from b random rows at the rate a, up to 1 / c with c = largest + 4 s / b, where s is the
  largest squared length of a row, leaves a mean squared distance of at most

      (1 - a smallest) D + a^2 8 s loss / b

  of D before it: from |w' - w*|^2 = |w - w*|^2 - 2 a g.(w - w*) + a^2 |g|^2, E g the gradient,
  E |g|^2 <= |E g|^2 + E |g_1 - E g_1|^2 / b, and (p + q)^2 <= 2 p^2 + 2 q^2 for the two parts of
  one row's gradient 2 x (x.(w - w*) - r) (Needell, Srebro, Ward 2014, arXiv:1310.5715, theorem
  2.1; Bottou, Curtis, Nocedal 2018, arXiv:1606.04838, section 4). `loss` is its minimum, the mean
  of r^2.
* Replicas that step independently each obey this with b the size of the replica batch. Their mean
  is at most as far from w* as they are on average, because |.|^2 is convex.

The second is an expectation for rows drawn with replacement. Epochs that take every row once do no
worse in practice (Gurbuzbalaban, Ozdaglar, Parrilo 2021, arXiv:1510.08560).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Landscape:
    """The basis of the learning rates: the loss of a least-squares problem around its solution.

    Attributes:
        smallest: The Hessian's smallest eigenvalue. Positive.
        largest: Its largest.
        largest_square: The largest squared length of a row.
        loss: The minimum of the loss. Not negative.
    """

    smallest: float
    largest: float
    largest_square: float
    loss: float

    @property
    def descent_rate(self) -> float:
        """The learning rate with the best bound for gradient descent."""
        return 2 / (self.smallest + self.largest)

    def descent_distance(self, steps: int) -> float:
        """Returns the bound on the distance after full steps, as a fraction of the first."""
        return ((self.largest - self.smallest) / (self.largest + self.smallest)) ** steps

    def stochastic_rate(self, rows: float) -> tuple[float, float]:
        """Returns the first rate `a` and the `d` of rates a / (1 + d t) for steps t = 0, 1, ...

        The first is the largest safe one. Later the rates approach 2 / (smallest t), for which the
        distance falls as 1 / sqrt(t).

        Args:
            rows: Rows of a step. Positive.
        """
        first = 1 / (self.largest + 4 * self.largest_square / rows)
        return first, self.smallest * first / 2

    def stochastic_distance(
        self, first: float, rows: float, rate: Callable[[int], float], steps: int
    ) -> float:
        """Returns the bound on the root mean square of the distance after `steps` steps.

        Args:
            first: Distance before the first step.
            rows: Rows of a step. Positive.
            rate: The learning rate of step t, from 0; at most the first of `stochastic_rate`.
            steps: Not negative.
        """
        square = first**2
        noise = 8 * self.largest_square * self.loss / rows
        for step in range(steps):
            square = (1 - rate(step) * self.smallest) * square + rate(step) ** 2 * noise
        return math.sqrt(square)
