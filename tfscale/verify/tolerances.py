"""How far a training under a strategy is from one device's, in units of the model's own rounding.

    difference(a, b) = |b - a| / (|a| + 1e-6 sqrt(size)),  | | the Euclidean norm

The floor of a quantity is what one device's own training differs by when the rows inside each batch
change places: the same sums, rounded otherwise. It differs from model to model by many orders of
magnitude, so no fixed tolerance would do. A control may be exact by luck, so a floor is at least a
few roundings of the precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

TIMES_FLOOR = 10.0
"""A difference up to so many floors is rounding: two orders of summation are two draws of it."""
TOO_COARSE = 1e-2
"""Above this floor a wrong training looks like rounding, so nothing is said to be equal."""
LEAST_FLOOR = {
    "float64": 1e-10,
    "float32": 2e-7,
    "float16": 4e-4,  # 2**-11 a rounding
    "bfloat16": 3e-3,  # 2**-8
}
KEPT_IN_FLOAT32 = ("weights", "statistics", "slots", "file")
"""Of a model that computes in half precision: its variables."""
SMALL = 1e-6
"""Entries below this count as noise: their error is taken relative to it."""

GROUPS = (
    "loss",
    "gradients",
    "statistics",
    "weights",
    "slots",
    "iterations",
    "metrics",
    "evaluate",
    "predictions",
    "file",
)
EXACT = ("iterations",)


@dataclass(frozen=True)
class Quantity:
    """How one kind of result compares.

    Attributes:
        name: One of `GROUPS`.
        verdict: "equal", "mismatch", "not judged" (the floor is too high) or "not compared".
        difference: Largest relative difference of its arrays. Not negative; inf where shapes
            differ.
        floor: Largest difference of the control's arrays, at least `LEAST_FLOOR`.
        worst: Name of the array that differs most.
        reason: Why it is not compared, or "".
    """

    name: str
    verdict: str
    difference: float = 0.0
    floor: float = 0.0
    worst: str = ""
    reason: str = ""

    @property
    def ratio(self) -> float:
        """Difference over floor; up to `TIMES_FLOOR` is rounding."""
        if self.difference == 0.0:
            return 0.0
        return self.difference / self.floor if self.floor else float("inf")


def judge(
    expected: Mapping[str, np.ndarray],
    control: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    missing: Mapping[str, str],
    precision: str,
) -> list[Quantity]:
    """Compares quantity by quantity.

    Args:
        expected: One device's arrays, by name; the part before the first slash is the group.
        control: The same, trained with permuted rows.
        found: The strategy's.
        missing: Groups that one device could not be asked for, and why.
        precision: A key of `LEAST_FLOOR`: what the model computes in.

    Example:
        >>> one, two = np.array([1.0, 2.0]), np.array([1.0, 2.1])
        >>> [q.verdict for q in judge({"loss": one}, {"loss": one}, {"loss": two}, {}, "float64")]
        ['mismatch']
    """
    quantities = []
    for group in GROUPS:
        if group in missing:
            quantities.append(Quantity(group, "not compared", reason=missing[group]))
            continue
        names = {name for name in (*expected, *found) if group_of(name) == group}
        if names:
            quantities.append(
                _judge_group(group, sorted(names), expected, control, found, precision)
            )
    return quantities


def _judge_group(
    group: str,
    names: list[str],
    expected: Mapping[str, np.ndarray],
    control: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    precision: str,
) -> Quantity:
    distances = {name: _between(expected, found, name) for name in names}
    worst = max(distances, key=lambda name: distances[name])
    if group in EXACT:
        verdict = "equal" if distances[worst] == 0.0 else "mismatch"
        return Quantity(group, verdict, distances[worst], 0.0, worst)
    kept = "float32" if group in KEPT_IN_FLOAT32 and precision != "float64" else precision
    controls = [_between(expected, control, name) for name in names if name in control]
    floor = max([LEAST_FLOOR[kept], *controls])
    verdict = "equal" if distances[worst] <= TIMES_FLOOR * floor else "mismatch"
    if verdict == "equal" and floor > TOO_COARSE:
        verdict = "not judged"
    return Quantity(group, verdict, distances[worst], floor, worst)


def group_of(name: str) -> str:
    """Returns the kind of result an array's name stands for."""
    return name.partition("/")[0]


def difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Returns the norm of the difference over the norm of what was expected.

    Two that overflowed alike do not differ.

    Args:
        expected: What one device found.
        found: An array to compare with it.

    Returns:
        At least 0; inf where shapes, or places that are not finite, differ.

    Example:
        >>> round(difference(np.array([3.0, 4.0]), np.array([3.0, 4.5])), 6)
        0.1
    """
    if expected.shape != found.shape:
        return float("inf")
    if not np.issubdtype(expected.dtype, np.floating):
        return 0.0 if np.array_equal(expected, found) else float("inf")
    a, b = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    a, b = a[finite], b[finite]
    return float(np.linalg.norm(a - b) / (np.linalg.norm(a) + SMALL * np.sqrt(max(1, a.size))))


def _between(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], name: str
) -> float:
    if name not in expected or name not in found:
        return float("inf")
    return difference(expected[name], found[name])
