"""How parameters and slots are divided over the replicas, and what the largest share is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import tensorflow as tf

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


@dataclass(frozen=True)
class Parameter:
    """A trainable variable.

    Attributes:
        bytes: Of the whole.
        layer: What it belongs to; the parameters of a layer are gathered together.
        is_joined: Whether its parts, when they arrive one behind the other, have to be copied
            once more to be the whole.
    """

    bytes: int
    layer: str
    is_joined: bool


def parameters_of(optimizer: Any, variables: Sequence[Any], replicas: int) -> list[Parameter]:
    """Returns what has to be known of an optimizer's variables to gather them.

    Args:
        optimizer: A Keras optimizer.
        variables: Keras variables, in its order.
        replicas: Positive.
    """
    return [
        Parameter(
            bytes=prod(v.shape) * tf.as_dtype(v.dtype).size,
            layer=v.path.rpartition("/")[0],
            is_joined=not cut.is_even or cut.axis > 0,
        )
        for v, cut in zip(variables, cuts_for(optimizer, variables, replicas), strict=True)
    ]


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
