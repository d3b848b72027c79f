"""How parameters and slots are divided over the replicas, and what the largest share is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import keras

Bounds = tuple[int, ...]
"""Replica r has the rows from `bounds[r]` to `bounds[r + 1]` of a variable's largest axis."""

_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.RMSprop,
    keras.optimizers.Adagrad,
    keras.optimizers.Adadelta,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
)


def bounds_by_path(optimizer: Any, parameters: Sequence[Any], replicas: int) -> dict[str, Bounds]:
    """Returns how each parameter is divided.

    An optimizer that computes each element by itself lets a variable be cut anywhere: along its
    largest axis of n rows, replica r of R has the rows from floor(r n / R) to floor((r + 1) n / R).
    Of other optimizers, and with a constraint, a variable is whole on one replica: the largest goes
    first, and each to the replica that has least.

    Args:
        optimizer: A Keras optimizer.
        parameters: Its variables, Keras variables.
        replicas: R. Positive.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    found: dict[str, Bounds] = {}
    loads = [0] * replicas
    whole = []
    for variable in parameters:
        rows = max(variable.shape, default=1)
        if type(inner) in _ELEMENTWISE and variable.constraint is None:
            found[variable.path] = tuple(r * rows // replicas for r in range(replicas + 1))
        else:
            whole.append(variable)
    for variable in sorted(whole, key=lambda each: -prod(each.shape)):
        owner = loads.index(min(loads))
        loads[owner] += prod(variable.shape)
        rows = max(variable.shape, default=1)
        found[variable.path] = tuple(rows if r > owner else 0 for r in range(replicas + 1))
    return found


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
