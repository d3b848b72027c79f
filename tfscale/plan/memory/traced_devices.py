"""On which of a replica's devices the operations of a traced step are, and in which unit.

The trace names devices that need not be there, and has all variables on the first (see
`strategies.keras_support.placement.replica_devices`). So what touches a variable is put where that
is to be. What updates variables follows its largest input, as when a step is really taken (see
`pipeline.following_devices` and `tensor.gradient_devices`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from strategies.extension import noted_units, planned_place

Unit = tuple[bool, int]
"""Whether it is a forward pass, and the number of its part of the model."""


def places_of(graph: Any, holders: Mapping[int, int], num_backward: int) -> dict[Any, int]:
    """Returns the device of each operation, as its place among those of the replica.

    Args:
        graph: Of the step.
        holders: By the `id` of a variable's handle, its device; the first of those left out.
        num_backward: Operations that were made before the first gradient was applied.
    """
    variables = {inner.ref(): holders.get(id(outer), 0) for outer, inner in graph.captures}
    units = noted_units(graph)
    follows = units[-1][2] if units else num_backward
    found: dict[Any, int] = {}
    for number, op in enumerate(graph.get_operations()):
        touched = [
            variables[each.ref()]
            for each in op.inputs
            if each.dtype == tf.resource and each.ref() in variables
        ]
        place = planned_place(op.device)
        if touched:
            place = touched[0]
        elif not place and number >= follows:
            largest = max(op.inputs, key=lambda t: t.shape.num_elements() or 0, default=None)
            place = 0 if largest is None else found.get(largest.op, 0)
        found[op] = place
    return found


def units_of(graph: Any) -> dict[Any, Unit]:
    """Returns the unit of each operation that is in one."""
    operations = graph.get_operations()
    return {
        op: (unit.is_forward, unit.chunk)
        for unit, first, stop in noted_units(graph)
        for op in operations[first:stop]
    }
