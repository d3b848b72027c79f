"""How parameters and slots are divided over the replicas, and what the largest share is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from strategies.extension import cuts_for

Bounds = tuple[int, ...]
"""Replica r has the rows from `bounds[r]` to `bounds[r + 1]` of an axis of a variable."""


def bounds_by_path(optimizer: Any, parameters: Sequence[Any], replicas: int) -> dict[str, Bounds]:
    """Returns how each parameter is divided when it is sharded.

    Args:
        optimizer: A Keras optimizer.
        parameters: Its variables, Keras variables.
        replicas: Positive.
    """
    cuts = cuts_for(optimizer, parameters, replicas)
    return {v.path: cut.bounds for v, cut in zip(parameters, cuts, strict=True)}


def shares(
    variables: Sequence[tuple[str, tuple[int, ...], int]],
    bounds: Mapping[str, Bounds],
    shapes: Mapping[str, tuple[int, ...]],
    replicas: int,
) -> list[int]:
    """Returns the bytes of parameters, or of slots, on each replica.

    Args:
        variables: Path of the parameter, own shape and bytes of each. What belongs to no parameter
            is whole on every replica; a slot of another shape than its parameter is where that is.
        bounds: Of each parameter, by path.
        shapes: Of each parameter, by path.
        replicas: Positive.

    Example:
        >>> shares([("w", (3,), 12), ("", (), 8)], {"w": (0, 1, 3)}, {"w": (3,)}, 2)
        [12, 16]
    """
    totals = [0] * replicas
    for path, shape, size in variables:
        if path not in bounds:
            totals = [total + size for total in totals]
            continue
        rows = [stop - start for start, stop in pairwise(bounds[path])]
        if shape != shapes[path]:
            rows = [1 if own else 0 for own in rows]
        whole = sum(rows) if shape == shapes[path] else 1
        totals = [total + size * own // whole for total, own in zip(totals, rows, strict=True)]
    return totals
