"""Lists of tensors: what a loop reads, writes and keeps for the backward pass, turn by turn.

A list has a copy of each tensor that it is made from. The gradient of a `tf.while_loop` needs
tensors of every turn, and the body pushes each onto a list of its own. What they take is known if
the number of turns is: a tensor that shares memory with another one that is kept, with a weight or
with an input is kept without more.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Any

import tensorflow as tf

_PUSH = "TensorListPushBack"
MAKE_LISTS = frozenset(("TensorListReserve", "TensorListFromTensor", "ZerosLike"))
_VIEWS = frozenset(("ReadVariableOp", "Const", "TensorListGetItem", "Placeholder"))
"""Their results are in memory anyway."""


def bytes_kept(loop: Any, sharing: Collection[str]) -> dict[int, int] | None:
    """Returns the bytes of the lists that a loop fills, by their place among its outputs.

    Args:
        loop: A While or StatelessWhile operation.
        sharing: Types of operations whose outputs share the memory of their inputs.

    Returns:
        None if they are not known: the number of turns or a shape depends on the data.
    """
    body = loop.graph._get_function(loop.get_attr("body").name).graph
    places = {tensor.ref(): place for place, tensor in enumerate(body.inputs)}

    def source(tensor: Any) -> Any:
        while tensor.op.type in sharing and tensor.op.inputs:
            tensor = tensor.op.inputs[0]
        return tensor

    ends = [source(tensor) for tensor in body.outputs]
    lists = {place: end.op for place, end in enumerate(ends) if end.op.type == _PUSH}
    written = [end.op.inputs[2] for end in ends if end.op.type == "TensorListSetItem"]
    known = {source(tensor).ref() for tensor in written}  # their lists count where they are made
    found = {}
    turns = _turns(loop) if lists else 0
    for place, push in lists.items():
        tensor = source(push.inputs[1])
        carried = places.get(tensor.ref())
        if carried is not None:  # what the turn before made
            tensor = ends[carried]
        if tensor.op.type in _VIEWS or tensor.ref() in known:
            continue
        known.add(tensor.ref())
        elements = tensor.shape.num_elements()
        if turns is None or elements is None:
            return None
        found[place] = turns * elements * tensor.dtype.size
    return found


def bytes_of_list(tensor: Any) -> int:
    """Returns the bytes of a list of tensors, or 0 if they are not known.

    Args:
        tensor: The list, a variant; with memory of its own if an operation of `MAKE_LISTS` made it.
    """
    while tensor.op.inputs and tensor.op.type not in ("TensorListReserve", "TensorListFromTensor"):
        place = tensor.value_index if len(tensor.op.inputs) > tensor.value_index else 0
        tensor = tensor.op.inputs[place]
    op = tensor.op
    if op.type == "TensorListFromTensor":
        return int((op.inputs[0].shape.num_elements() or 0) * op.inputs[0].dtype.size)
    if op.type != "TensorListReserve":
        return 0
    shape, count = (tf.get_static_value(each) for each in op.inputs)
    if shape is None or count is None or count < 0 or min(shape.ravel(), default=0) < 0:
        return 0
    return int(prod(int(size) for size in shape) * count * op.get_attr("element_dtype").size)


def _turns(loop: Any) -> int | None:
    """Returns the largest number of turns, of a loop that counts from 0; None if not known."""
    condition = loop.graph._get_function(loop.get_attr("cond").name).graph
    places = {tensor.ref(): place for place, tensor in enumerate(condition.inputs)}
    limits = []
    for op in condition.get_operations():
        if op.type == "Less":
            limit = op.inputs[1]
            if limit.ref() in places:
                limit = loop.inputs[places[limit.ref()]]
            limits.append(tf.get_static_value(limit))
    found = [int(each) for each in limits if each is not None]
    return min(found, default=None)
