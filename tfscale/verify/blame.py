"""Which layer to look at first, from where gradients and weights differ and where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfscale.verify.tolerances import TIMES_FLOOR, Quantity, difference, group_of


@dataclass(frozen=True)
class LayerDifference:
    """How far a layer's variables are from one device's.

    Attributes:
        layer: Its name, as variables' paths have it.
        gradients: Largest relative difference of its gradients in the first step.
        statistics: The same of its other variables after the first step.
        weights: The same of all its weights at the end.
    """

    layer: str
    gradients: float = 0.0
    statistics: float = 0.0
    weights: float = 0.0


def layer_differences(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> list[LayerDifference]:
    """Returns the differences of all layers with weights, in the order of the model."""
    worst: dict[str, dict[str, float]] = {}
    for group in ("weights", "gradients", "statistics"):  # the order is the weights': the model's
        for name, value in expected.items():
            if group_of(name) == group and name in found:
                of_layer = worst.setdefault(_layer_of(name), {})
                of_layer[group] = max(of_layer.get(group, 0.0), difference(value, found[name]))
    return [LayerDifference(layer, **groups) for layer, groups in worst.items()]


def _layer_of(name: str) -> str:
    """`weights/3 model/dense/kernel` belongs to the layer `dense`."""
    path = name.partition(" ")[2].split("/")
    return path[-2] if len(path) > 1 else path[-1]


def blamed(layers: Sequence[LayerDifference], quantities: Sequence[Quantity]) -> str:
    """Returns one sentence that names the layer to look at first; empty where no layer differs.

    Forward, what is wrong in a layer shows in its statistics. Backward, a gradient is right until
    it comes to the layer that is wrong, from the loss on down: the layers behind it agree. A layer
    that is only wrong in what it hands on has the right gradient itself.
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
            "the gradients of the first step agree, the weights do not: look at the other batches "
            f"and at the optimizer. Layer {off['weights'][0]!r} is the first to differ."
        )
    if off["weights"]:
        return f"layer {off['weights'][0]!r} is the first whose weights differ."
    return ""


def _by_gradient(off: list[str], layers: list[str]) -> str:
    first, last = off[0], off[-1]
    behind = layers[layers.index(last) + 1 :]
    if len(off) == len(layers):
        return f"the gradients of all layers differ, from {first!r} on: look at the loss first."
    if behind and off == layers[: len(off)]:
        return (
            f"layer {last!r}, or layer {behind[0]!r} next to it: the gradients of the layers "
            f"behind agree, those from {first!r} to {last!r} do not."
        )
    which = "the only one" if len(off) == 1 else "the first"
    return f"layer {first!r} is {which} whose gradient differs."


def common_factor(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> float | None:
    """Returns c where every gradient of the first step is c times one device's, c not 1.

    Args:
        expected: One device's arrays.
        found: The strategy's.

    Returns:
        c, or None where there is no such factor (to 1e-4).
    """
    # Of the first step only: the batch of the second may not be shared evenly.
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
