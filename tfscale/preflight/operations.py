"""The operations of a traced step, one by one, beside the kernels that XLA has.

XLA stops at the first operation it cannot compile; here all are found. Only what the step's results
and effects depend on is looked at: TensorFlow prunes the rest before it compiles.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import kernels

from tfscale.preflight import advice
from tfscale.preflight.finding import FAILS, WARNS, Finding, Place
from tfscale.preflight.source_locations import LayerPlaces, operation_place

_DEVICE = "XLA_CPU_JIT"
_ARGUMENTS = ("Placeholder",)
_CONSTANT = "Const"  # what computes with it tells the dtype

Located = tuple[Any, Place | None]


def scan(graph: Any, layers: LayerPlaces) -> list[Finding]:
    """Returns what is wrong with the operations of a graph, one finding a line and sort.

    Args:
        graph: The graph of a traced function, branches and loops included.
        layers: Where layers were made.
    """
    _register_kernels()
    refused: list[Located] = []
    hosts: list[Located] = []
    dynamic: list[Located] = []
    wide: list[Located] = []
    for operation, place in _operations(graph, layers, None, set()):
        if operation.type in _ARGUMENTS:
            continue
        if advice.is_hosts_work(operation.type) and not _has_kernel(operation):
            hosts.append((operation, place))
        elif not _has_kernel(operation):
            refused.append((operation, place))
        elif advice.is_dynamic(operation.type):
            dynamic.append((operation, place))
        is_computed = place is not None and operation.type != _CONSTANT
        if is_computed and any(output.dtype == tf.float64 for output in operation.outputs):
            wide.append((operation, place))
    findings = [
        Finding(FAILS, "operation", f"XLA cannot compile {_names(types)}", advice.cure(types), p)
        for p, types in _by_place(_without_gradients(refused))
    ]
    findings += [
        Finding(
            WARNS,
            "host",
            f"{_names(types)} cannot be compiled; a TPU leaves it to the host",
            "Take it out once it has told you what you want: it costs time at every step.",
            p,
        )
        for p, types in _by_place(hosts)
    ]
    findings += [
        Finding(
            WARNS,
            "dynamic",
            f"the size of what {_names(types)} returns depends on the data",
            "It compiles, for the largest size there can be. Where that is slow, use a mask in "
            "place of a selection, or do it in the input pipeline.",
            p,
        )
        for p, types in _by_place(dynamic)
    ]
    findings += [
        Finding(
            WARNS,
            "float64",
            f"{_names(types)} in float64, which a TPU computes in several float32 steps",
            "Use float32, or keras.config.floatx() in place of a dtype by name.",
            p,
        )
        for p, types in _by_place(wide)
    ]
    return findings


def _operations(
    graph: Any, layers: LayerPlaces, called_at: Place | None, seen: set[str]
) -> Iterator[Located]:
    """Yields what a graph computes, and what its branches, loops and functions do."""
    for operation in _needed(graph):
        place = operation_place(operation, layers) or called_at
        yield operation, place
        for name in _called(operation):
            if name not in seen:
                seen.add(name)
                function = graph._get_function(name)
                if function is not None:
                    yield from _operations(function.graph, layers, place, seen)


def _needed(graph: Any) -> list[Any]:
    """What the outputs and the effects of a graph depend on, in the order it was traced in."""
    left = [output.op for output in graph.outputs if isinstance(output, tf.Tensor)]
    left += graph.control_outputs
    needed = set()
    while left:
        operation = left.pop()
        if operation not in needed:
            needed.add(operation)
            left += [tensor.op for tensor in operation.inputs]
            left += operation.control_inputs
    return [operation for operation in graph.get_operations() if operation in needed]


def _called(operation: Any) -> Iterator[str]:
    if operation.type == "SymbolicGradient" or advice.is_hosts_work(operation.type):
        return
    for value in operation.node_def.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for function in value.list.func:
            yield function.name


@functools.cache
def _register_kernels() -> None:
    """TensorFlow registers XLA's kernels when something is compiled for the first time."""
    tf.function(lambda: tf.constant(0.0), jit_compile=True).experimental_get_compiler_ir()()


@functools.cache
def _kernels_of(operation_type: str) -> list[dict[str, frozenset[int]]]:
    """The dtypes that each of XLA's kernels takes, by attribute."""
    registered = kernels.get_registered_kernels_for_op(operation_type).kernel
    return [
        {limit.name: frozenset(limit.allowed_values.list.type) for limit in kernel.constraint}
        for kernel in registered
        if kernel.device_type == _DEVICE
    ]


def _has_kernel(operation: Any) -> bool:
    attributes = operation.node_def.attr

    def takes(limits: dict[str, frozenset[int]]) -> bool:
        for name, allowed in limits.items():
            value = attributes[name]
            dtypes = list(value.list.type) if value.HasField("list") else [value.type]
            if not allowed.issuperset(dtypes):
                return False
        return True

    return any(takes(limits) for limits in _kernels_of(operation.type))


def _without_gradients(located: list[Located]) -> list[Located]:
    """Leaves out the gradient of what is listed itself: nobody wrote it, and it goes with it."""
    types = {operation.type for operation, place in located if place is not None}

    def is_gradient(operation: Any) -> bool:
        return any(operation.type != own and operation.type.startswith(own) for own in types)

    return [(o, place) for o, place in located if place is not None or not is_gradient(o)]


def _by_place(located: Iterable[Located]) -> list[tuple[Place | None, list[str]]]:
    """Groups operations by line; of those on no line of the user's, each is a group."""
    grouped: dict[tuple[Place | None, str], list[str]] = {}
    for operation, place in located:
        key = (place, "" if place is not None else operation.type)
        grouped.setdefault(key, []).append(operation.type)
    return [(place, list(dict.fromkeys(types))) for (place, _), types in grouped.items()]


def _names(types: list[str]) -> str:
    return ", ".join(types)
