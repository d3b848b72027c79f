"""Compares training under a strategy with one device, relative to the model's rounding.

    difference(a, b) = |b - a| / (|a| + 1e-6 sqrt(size)),  | | the Euclidean norm

The floor of a quantity is its difference between two trainings on one device, the second with
permuted rows inside each batch: the same sums with other rounding. The floor varies between models
by many orders of magnitude, so a fixed tolerance does not work. Because the control may be exact by
chance, a floor is at least a few roundings of the precision. Weights that a model in half precision
keeps in float32 have changed by updates that were rounded in half precision, so their floor is at
least such a rounding of their whole change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TIMES_FLOOR = 10.0
"""A difference of up to so many floors counts as rounding, which varies between two runs."""
TOO_COARSE = 1e-2
"""Above this floor an error could look like rounding, so no result counts as equal."""
LEAST_FLOOR = {
    "float64": 1e-10,
    "float32": 2e-7,
    "float16": 4e-4,  # 2**-11 a rounding
    "bfloat16": 3e-3,  # 2**-8
}
KEPT_IN_FLOAT32 = ("weights", "statistics", "file")
"""Quantities that a model in half precision keeps in float32."""
UPDATED = ("weights", "file")
"""Those that updates in half precision change."""
SMALL = 1e-6
"""Scale of noise: errors of smaller entries are relative to it."""

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
    """The comparison of one kind of result.

    Attributes:
        name: One of `GROUPS`.
        verdict: "equal", "mismatch", "inconclusive" (the floor is too high) or "not compared".
        difference: Largest relative difference of its arrays. Not negative; inf if shapes differ.
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
        """Difference divided by floor. Up to `TIMES_FLOOR` it is rounding."""
        if self.difference == 0.0:
            return 0.0
        return self.difference / self.floor if self.floor else float("inf")


def compare_quantities(
    expected: Mapping[str, np.ndarray],
    control: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    missing: Mapping[str, str],
    precision: str,
    movement: float = 0.0,
) -> list[Quantity]:
    """Compares all quantities.

    Args:
        expected: Arrays of one device, by name. The part before the first slash is the group.
        control: Arrays of one device with permuted rows.
        found: Arrays of the strategy.
        missing: Groups that one device could not produce, and why.
        precision: The precision that the model computes in, a key of `LEAST_FLOOR`.
        movement: How far training has changed the weights, relative to them; at least 0.

    Example:
        >>> one, two = np.array([1.0, 2.0]), np.array([1.0, 2.1])
        >>> one, two = {"loss": one}, {"loss": two}
        >>> [q.verdict for q in compare_quantities(one, one, two, {}, "float64")]
        ['mismatch']
    """
    quantities = []
    for group in GROUPS:
        if group in missing:
            quantities.append(Quantity(group, "not compared", reason=missing[group]))
            continue
        names = {name for name in (*expected, *found) if group_of(name) == group}
        if names:
            least = _least(group, precision, movement)
            quantities.append(_compare_group(group, sorted(names), expected, control, found, least))
    return quantities


def _compare_group(
    group: str,
    names: list[str],
    expected: Mapping[str, np.ndarray],
    control: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    least_floor: float,
) -> Quantity:
    distances = {name: _between(expected, found, name) for name in names}
    worst = max(distances, key=lambda name: distances[name])
    if group in EXACT:
        verdict = "equal" if distances[worst] == 0.0 else "mismatch"
        return Quantity(group, verdict, distances[worst], 0.0, worst)
    controls = [_between(expected, control, name) for name in names if name in control]
    floor = max([least_floor, *controls])
    verdict = "equal" if distances[worst] <= TIMES_FLOOR * floor else "mismatch"
    if verdict == "equal" and floor > TOO_COARSE:
        verdict = "inconclusive"
    return Quantity(group, verdict, distances[worst], floor, worst)


def _least(group: str, precision: str, movement: float) -> float:
    if precision == "float64" or group not in KEPT_IN_FLOAT32:
        return LEAST_FLOOR[precision]
    updates = LEAST_FLOOR[precision] * movement if group in UPDATED else 0.0
    return max(LEAST_FLOOR["float32"], updates)


def group_of(name: str) -> str:
    """Returns the group in an array's name."""
    return name.partition("/")[0]


def difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Returns the norm of the difference divided by the norm of `expected`.

    Entries that are not finite must be equal, and do not count as a difference then.

    Args:
        expected: An array of one device.
        found: An array to compare with it.

    Returns:
        At least 0; inf if shapes or non-finite entries differ.

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


@dataclass(frozen=True)
class LayerDifference:
    """The differences of a layer's variables from those of one device.

    Attributes:
        layer: Its name, as in the paths of its variables.
        gradients: Largest relative difference of its gradients in the first step.
        statistics: Largest relative difference of its other variables after the first step.
        weights: Largest relative difference of its weights at the end.
    """

    layer: str
    gradients: float = 0.0
    statistics: float = 0.0
    weights: float = 0.0


def layer_differences(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> list[LayerDifference]:
    """Returns the differences of all layers that have weights, in the order of the model."""
    worst: dict[str, dict[str, float]] = {}
    for group in ("weights", "gradients", "statistics"):  # weights first: in the model's order
        for name, value in expected.items():
            if group_of(name) == group and name in found:
                of_layer = worst.setdefault(_layer_of(name), {})
                of_layer[group] = max(of_layer.get(group, 0.0), difference(value, found[name]))
    return [LayerDifference(layer, **groups) for layer, groups in worst.items()]


def _layer_of(name: str) -> str:
    """Returns `dense` for `weights/3 model/dense/kernel`."""
    path = name.partition(" ")[2].split("/")
    return path[-2] if len(path) > 1 else path[-1]


def layer_to_check(layers: Sequence[LayerDifference], quantities: Sequence[Quantity]) -> str:
    """Returns a sentence that names the layer to check first, or "" if no layer differs.

    In the forward pass, an error in a layer appears in its statistics. In the backward pass, which
    starts at the loss, gradients are right until the wrong layer: the layers after it agree. A
    layer that is wrong only in the gradient of its inputs has the right gradient itself.
    """
    limits = {q.name: TIMES_FLOOR * q.floor for q in quantities}
    off = {
        group: [row.layer for row in layers if getattr(row, group) > limits.get(group, np.inf)]
        for group in ("gradients", "statistics", "weights")
    }
    if off["statistics"]:
        return (
            f"layer {off['statistics'][0]!r} is the first whose statistics differ after one step."
        )
    if off["gradients"]:
        return _by_gradient(off["gradients"], [row.layer for row in layers])
    if off["weights"] and "gradients" in limits:
        return (
            "the gradients of the first step agree, but the weights do not: check the other "
            f"batches and the optimizer. Layer {off['weights'][0]!r} is the first to differ."
        )
    if off["weights"]:
        return f"layer {off['weights'][0]!r} is the first whose weights differ."
    return ""


def _by_gradient(off: list[str], layers: list[str]) -> str:
    first, last = off[0], off[-1]
    behind = layers[layers.index(last) + 1 :]
    if len(off) == len(layers):
        return f"the gradients of all layers differ, from {first!r} on: check the loss first."
    if behind and off == layers[: len(off)]:
        return (
            f"layer {last!r}, or the next layer {behind[0]!r}: the gradients of the layers after "
            f"it agree, those from {first!r} to {last!r} do not."
        )
    which = "the only one" if len(off) == 1 else "the first"
    return f"layer {first!r} is {which} whose gradient differs."


def common_factor(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> float | None:
    """Returns c if every gradient of the first step is c times that of one device, and c is not 1.

    Args:
        expected: Arrays of one device.
        found: Arrays of the strategy.

    Returns:
        c, or None if there is no such factor (to 1e-4).
    """
    # Only the first step, because the batch of the second may not divide evenly.
    names = [name for name in expected if name.startswith("gradients/") and name in found]
    names = [name for name in names if not name.startswith("gradients/+")]
    if not names or any(expected[name].shape != found[name].shape for name in names):
        return None
    a = np.concatenate([expected[name].ravel() for name in names]).astype(np.float64)
    b = np.concatenate([found[name].ravel() for name in names]).astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all() and a @ a > 0):
        return None
    factor = float(a @ b / (a @ a))
    is_common = np.linalg.norm(b - factor * a) <= 1e-4 * np.linalg.norm(b)
    return factor if is_common and abs(factor - 1) > 1e-3 else None
