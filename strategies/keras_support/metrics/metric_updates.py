"""Recognises how a metric's update combines the old value of a variable with new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.keras_support.context.lineage import Lineage, handle_id

_READS = ("ReadVariableOp", "ResourceGather", "ResourceGatherNd")
_PASSING = (
    "Cast",
    "EnsureShape",
    "ExpandDims",
    "Identity",
    "PlaceholderWithDefault",
    "Reshape",
    "Squeeze",
    "StopGradient",
)
_STACKS = ("Pack", "ConcatV2", "Concat")
_KINDS = {
    "Add": "sum",
    "AddV2": "sum",
    "AddN": "sum",
    "TensorScatterAdd": "sum",
    "TensorScatterSub": "sum",
    "Sum": "sum",
    "Maximum": "max",
    "LogicalOr": "max",
    "TensorScatterMax": "max",
    "Max": "max",
    "Any": "max",
    "Minimum": "min",
    "LogicalAnd": "min",
    "TensorScatterMin": "min",
    "Min": "min",
    "All": "min",
}
_OVER_STACKS = ("Sum", "Max", "Any", "Min", "All")
_LARGER = {"Greater": True, "GreaterEqual": True, "Less": False, "LessEqual": False}

Form = str | None
"""Of a tensor: "local" without the variable, "same" if it is the variable, "sum", "max" or "min" of
the variable and local numbers, "stack ..." of such side by side, or None for anything else."""


def assigned_form(value: Any, variable: Any, lineage: Lineage) -> Form:
    """Returns how `value` depends on `variable`'s value.

    Args:
        value: A tensor of a replica's step.
        variable: A Keras variable, of which this replica has a copy.
        lineage: That of the step.

    Returns:
        "local" if it does not, "same" if it is the variable's value, "sum", "max" or "min" if it
        is that of the variable and of other numbers, or None if it is something else.
    """
    copy = variable._value
    if isinstance(copy, tf.distribute.DistributedValues):
        copy = copy._get()
    handle = id(copy.handle)
    depends = _depending(value, handle, lineage)
    form = _form(value, lineage, depends)
    return None if form is not None and form.startswith("stack") else form


def _depending(value: Any, handle: int, lineage: Lineage) -> Callable[[Any], bool]:
    """Returns what tells whether a tensor depends on a variable; walks without recursion."""
    known: dict[Any, bool] = {}
    stack = [value]
    while stack:
        current = stack[-1]
        key = _key(current)
        if key in known:
            stack.pop()
            continue
        kind, inputs = lineage.operation(current)
        resources = [each for each in inputs if each.dtype == tf.resource]
        if any(handle_id(each) == handle for each in resources):
            known[key] = True
            stack.pop()
            continue
        if kind in _READS:
            known[key] = False
            stack.pop()
            continue
        before = [each for each in inputs if each.dtype != tf.resource]
        waiting = [each for each in before if _key(each) not in known]
        if waiting and key not in known:
            # A graph has no cycles outside of loops, whose bodies are other graphs.
            stack.extend(waiting)
            continue
        known[key] = any(known[_key(each)] for each in before)
        stack.pop()
    return lambda tensor: known.get(_key(tensor), False)


def _form(tensor: Any, lineage: Lineage, depends: Callable[[Any], bool]) -> Form:
    if not depends(tensor):
        return "local"
    kind, inputs = lineage.operation(tensor)
    if kind in _READS:
        return "same"
    if kind in ("Select", "SelectV2"):
        return _selected(inputs, lineage, depends)
    forms = [_form(each, lineage, depends) for each in inputs if each.dtype != tf.resource]
    if kind in _PASSING:
        return forms[0]
    others = [form for form in forms if form != "local"]
    if len(others) != 1 or others[0] is None:
        return None
    (form,) = others
    if kind in _STACKS:
        return f"stack {form}"
    if kind == "Sub":
        return "sum" if forms[0] in ("same", "sum") and forms[1] == "local" else None
    found = _KINDS.get(kind)
    if found is None or (kind.startswith("TensorScatter") and forms[0] == "local"):
        return None
    if kind in _OVER_STACKS:
        return found if form in ("stack same", f"stack {found}") else None
    return found if form in ("same", found) else None


def _selected(inputs: list[Any], lineage: Lineage, depends: Callable[[Any], bool]) -> Form:
    condition, chosen, other = inputs
    forms = [_form(chosen, lineage, depends), _form(other, lineage, depends)]
    if depends(condition):
        return _larger_or_smaller(condition, [chosen, other], forms, lineage, depends)
    kinds = set(forms) - {"same"}
    if None in kinds or "local" in kinds or len(kinds) > 1:
        return None
    return kinds.pop() if kinds else "same"


def _larger_or_smaller(
    condition: Any,
    pair: list[Any],
    forms: list[Form],
    lineage: Lineage,
    depends: Callable[[Any], bool],
) -> Form:
    """Sees a maximum or minimum in `where(x > v, x, v)` and its like."""
    kind, compared = lineage.operation(condition)
    if kind not in _LARGER or sorted(map(str, forms)) != ["local", "same"]:
        return None
    sides = [_form(each, lineage, depends) for each in compared]
    if sorted(map(str, sides)) != ["local", "same"]:
        return None
    if not _alike(compared[sides.index("local")], pair[forms.index("local")], lineage):
        return None
    return "max" if _LARGER[kind] == (sides == forms) else "min"


def _alike(one: Any, other: Any, lineage: Lineage, depth: int = 8) -> bool:
    """Tells whether two tensors are computed in the same way from the same tensors."""
    one, other = lineage.origin(one), lineage.origin(other)
    if one is other:
        return True
    numbers = tf.get_static_value(one), tf.get_static_value(other)
    if all(number is not None for number in numbers):
        return np.array_equal(*numbers)
    (kind, inputs), (other_kind, others) = lineage.operation(one), lineage.operation(other)
    if kind != other_kind or not inputs or len(inputs) != len(others) or depth == 0:
        return False
    return all(_alike(*both, lineage, depth - 1) for both in zip(inputs, others, strict=True))


def _key(tensor: Any) -> Any:
    if tf.is_symbolic_tensor(tensor):
        return id(tensor.graph), tensor.op.name, tensor.value_index
    return id(tensor)
