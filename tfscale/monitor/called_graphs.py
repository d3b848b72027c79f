"""The graphs that an operation of a graph runs: of loops, conditions and calls."""

from __future__ import annotations

from typing import Any

LOOPS = ("While", "StatelessWhile")
CONDITIONS = ("If", "StatelessIf", "Case", "StatelessCase")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def calls(op: Any) -> bool:
    """Tells whether an operation runs graphs that `called_graphs` returns."""
    return op.type in (*LOOPS, *CONDITIONS, *_CALLS)


def called_graphs(op: Any) -> list[Any]:
    """Returns the graphs that an operation runs, None for one that TensorFlow does not know.

    Args:
        op: A loop, whose graphs are its condition and its body; a condition or a call.
    """
    if op.type in LOOPS:
        functions = [op.get_attr("cond"), op.get_attr("body")]
    elif op.type in _CALLS:
        functions = [op.get_attr("f")]
    elif op.type.endswith("Case"):
        functions = op.get_attr("branches")
    else:
        functions = [op.get_attr("then_branch"), op.get_attr("else_branch")]
    found = [op.graph._get_function(function.name) for function in functions]
    return [None if function is None else function.graph for function in found]
