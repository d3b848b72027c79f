"""How often a loop of a graph turns, if that does not depend on the data.

A loop is counted if it goes on while counters are below limits: each counter begins with a number
that is known and grows by a known one, and no turn changes its limit. The gradient of a loop turns
as often as the loop did.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

_SAME = ("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims")
_LOOPS = ("While", "StatelessWhile")


def turns_of(loop: Any) -> int | None:
    """Returns the number of turns of a loop, or None if it depends on the data.

    Args:
        loop: A While or StatelessWhile operation of a function's graph.
    """
    condition, body = (
        loop.graph._get_function(loop.get_attr(part).name).graph for part in ("cond", "body")
    )
    return _turns(loop, body, condition, condition.outputs[0])


def _turns(loop: Any, body: Any, condition: Any, goes_on: Any) -> int | None:
    """Returns the turns until `goes_on`, a tensor of the condition, is false."""
    op = _source(goes_on).op
    if op.type == "LogicalAnd":
        both = [_turns(loop, body, condition, tensor) for tensor in op.inputs]
        known = [count for count in both if count is not None]
        return min(known) if len(known) == 2 else None
    if op.type != "Less":
        return None
    places = {tensor.ref(): place for place, tensor in enumerate(condition.inputs)}
    counter, limit = map(_source, op.inputs)
    if counter.ref() not in places:
        return None
    place = places[counter.ref()]
    first, grows = _value(loop.inputs[place]), _growth(body, place)
    if limit.ref() in places:
        own = places[limit.ref()]
        is_kept = _source(body.outputs[own]) is body.inputs[own]
        last = _value(loop.inputs[own]) if is_kept else None
    else:
        last = _value(limit)
    if first is None or last is None or grows is None or grows <= 0:
        return None
    return max(0, -((first - last) // grows))


def _growth(body: Any, place: int) -> int | None:
    """Returns by how much each turn increases one of a loop's variables."""
    op = _source(body.outputs[place]).op
    if op.type not in ("Add", "AddV2"):
        return None
    for own, more in (op.inputs, reversed(op.inputs)):
        if _source(own) is body.inputs[place]:
            return _value(more)
    return None


def _source(tensor: Any) -> Any:
    """Returns the tensor that another one only passes on."""
    while tensor.op.type in _SAME:
        tensor = tensor.op.inputs[0]
    return tensor


def _value(tensor: Any) -> int | None:
    """Returns a whole number's value, or None if it is not known."""
    source = _source(tensor)
    found = tf.get_static_value(source)
    if found is None and source.op.type in ("Max", "Min"):  # Keras takes that of one length
        values = tf.get_static_value(source.op.inputs[0])
        found = None if values is None else getattr(np, source.op.type.lower())(values)
    if found is None and source.op.type in _LOOPS and source.value_index == 0:
        return turns_of(source.op)  # TensorFlow's own counter, up to which the gradient counts
    if found is None or np.size(found) != 1:
        return None
    number = float(np.reshape(found, []))
    return int(number) if number.is_integer() else None
