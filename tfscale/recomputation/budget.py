"""Which layers to recompute, so that the activations that are kept fit a budget: arithmetic only.

A layer that is recomputed keeps its inputs instead of what is inside it. While it is recomputed,
what is inside is there for a moment, one layer at a time. So a choice S of layers needs

    bytes(kept outside of S) + bytes(inputs of S) + max over S of bytes(inside)

and costs the operations of S once more. Layers are added by the most bytes saved per operation; a
layer takes the place of those inside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_UNITS = {
    **{"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
}


@dataclass(frozen=True)
class Layer:
    """What a layer keeps.

    Attributes:
        place: Its number.
        parts: The numbers of the layers in it.
        inside: The tensors that it keeps and that recomputation would free.
        inputs: The tensors that recomputation keeps.
        operations: Floating point operations of its forward pass.
    """

    place: int
    parts: frozenset[int]
    inside: frozenset[Any]
    inputs: frozenset[Any]
    operations: float


def bytes_in(name: str, value: Any) -> int:
    """Returns a size in bytes.

    Args:
        name: Of the argument, for messages.
        value: A positive whole number, or text such as "2GiB" or "1.5 GB".

    Raises:
        ValueError: If it is something else.

    Example:
        >>> bytes_in("memory_budget", "1.5GiB")
        1610612736
    """
    number, factor = value, 1
    if isinstance(value, str):
        parts = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", value)
        number = None
        if parts is not None and parts[2].lower() in _UNITS and parts[1].count(".") <= 1:
            number, factor = float(parts[1].strip(".") or "0"), _UNITS[parts[2].lower()]
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number * factor < 1:
        raise ValueError(
            f"`{name}` must be a number of bytes, at least 1. Received: {name}={value!r}. Pass a "
            "whole number, or text with a unit: 500MB, 2GiB."
        )
    return int(number * factor)


def needed(sizes: Mapping[Any, int], chosen: Sequence[Layer]) -> int:
    """Returns the bytes of activations that a choice needs.

    Args:
        sizes: Bytes of each tensor that is kept without recomputation, and of layers' inputs.
        chosen: Layers, none inside of another.
    """
    freed = frozenset[Any]().union(*(each.inside for each in chosen))
    kept = {tensor for tensor, size in sizes.items() if size > 0 and tensor not in freed}
    inputs = frozenset[Any]().union(*(each.inputs for each in chosen)) - freed
    largest = max((sum(sizes[t] for t in each.inside) for each in chosen), default=0)
    return sum(sizes[t] for t in kept) + sum(abs(sizes[t]) for t in inputs - kept) + largest


def choose_within(budget: int, sizes: Mapping[Any, int], candidates: Sequence[Layer]) -> list[int]:
    """Returns the numbers of the layers to recompute.

    Args:
        budget: Bytes.
        sizes: Bytes of each tensor. That of a tensor which is kept only as a recomputed layer's
            input is negative.
        candidates: The layers.

    Raises:
        ValueError: If no choice fits.
    """
    chosen: dict[int, Layer] = {}
    lowest = needed(sizes, [])
    while (now := needed(sizes, list(chosen.values()))) > budget:
        lowest = min(lowest, now)
        covered = set(chosen).union(*(each.parts for each in chosen.values()))
        best, best_rate = None, 0.0
        for each in candidates:
            if each.place in covered:
                continue
            replaced = [chosen[part] for part in each.parts if part in chosen]
            saved = _saved(sizes, each) - sum(_saved(sizes, part) for part in replaced)
            cost = each.operations - sum(part.operations for part in replaced)
            rate = saved / max(cost, 1.0)
            if saved > 0 and rate > best_rate:
                best, best_rate = each, rate
        if best is None:
            raise ValueError(
                "`memory_budget` must be at least what recomputation can reach. Received: "
                f"{budget:,} bytes, while the activations need {lowest:,} with the choice that "
                "needs least. Allow more, or take a smaller batch."
            )
        for part in best.parts:
            chosen.pop(part, None)
        chosen[best.place] = best
    return sorted(chosen)


def _saved(sizes: Mapping[Any, int], layer: Layer) -> int:
    inputs = sum(-sizes[tensor] for tensor in layer.inputs if sizes[tensor] < 0)
    return sum(sizes[tensor] for tensor in layer.inside) - inputs
