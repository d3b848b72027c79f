"""Compares the operations of a traced step with the kernels of XLA.

XLA stops at the first operation that it cannot compile; this finds all of them. Only operations
that affect results or side effects are checked, because TensorFlow prunes the others.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import kernels

from strategies.extension import needed_operations
from tfscale.preflight.findings import (
    FAILS,
    WARNS,
    Finding,
    LayerLocations,
    SourceLocation,
    operation_location,
)

# Operations that a TPU leaves to its host, without waiting for them.
_HOST = re.compile(r"Print(V2)?|StringFormat|Write\w*Summary|Assert")

# These compile, but the size of their result depends on the data. XLA reserves the largest size.
_DYNAMIC = re.compile(
    r"Unique(V2|WithCounts|WithCountsV2)?|Where|ListDiff|DynamicPartition|"
    r"NonMaxSuppression(V2|V3|V4|V5)?|SparseToDense"
)

_CURES = (
    (r"(Eager)?PyFunc(Stateless)?", "Use TensorFlow or Keras operations, or move it to the input "
     "pipeline: Python runs on the host only."),
    (r"Ragged\w*", "Pad to one length in the input pipeline: ragged.to_tensor(shape=[None, 128])."),
    (r"Sparse\w*", "Feed dense tensors: tf.sparse.to_dense in the input pipeline."),
    (r"CropAndResize\w*", "Crop and resize in the input pipeline, or use tf.image.resize, which "
     "compiles."),
    (r"ImageProjectiveTransform\w*", "Augment in the input pipeline (`augment=` of input_pipeline, "
     "or Dataset.map), which runs on the host."),
    (r"CTC\w*", "Decode and score outside the training step, on the host."),
    (r"\w*(LookupTable|HashTable)\w*", "Look words up in the input pipeline, and feed integers."),
    (r"\w*String\w*|AsString|Decode\w*|Encode\w*|Regex\w*|StaticRegex\w*|Substr|UnicodeDecode\w*",
     "A TPU does not support strings: move it to the input pipeline, and feed numbers."),
)  # fmt: skip
_OTHER_CURE = (
    "Move it to the input pipeline, which runs on the host, or use operations that XLA supports."
)


def runs_on_host(operation_type: str) -> bool:
    """Returns whether a TPU leaves such an operation to its host.

    Example:
        >>> runs_on_host("PrintV2")
        True
    """
    return _HOST.fullmatch(operation_type) is not None


def is_dynamic(operation_type: str) -> bool:
    """Returns whether the size of such an operation's result depends on the data.

    Example:
        >>> is_dynamic("UniqueV2")
        True
    """
    return _DYNAMIC.fullmatch(operation_type) is not None


def cure(operation_types: list[str]) -> str:
    """Returns what to do about operations that cannot be compiled.

    Args:
        operation_types: The operation types of one source line.

    Example:
        >>> cure(["AsString"])
        'A TPU does not support strings: move it to the input pipeline, and feed numbers.'
    """
    for pattern, text in _CURES:
        if any(re.fullmatch(pattern, kind) for kind in operation_types):
            return text
    return _OTHER_CURE


_DEVICE = "XLA_CPU_JIT"
_ARGUMENTS = ("Placeholder",)
_CONSTANT = "Const"  # reported by the operations that use it

Located = tuple[Any, SourceLocation | None]


def scan(graph: Any, layers: LayerLocations) -> list[Finding]:
    """Returns the problems of a graph's operations, one finding per source line and category.

    Args:
        graph: The graph of a traced function, including branches and loops.
        layers: The locations at which layers were created.
    """
    _register_kernels()
    refused: list[Located] = []
    hosts: list[Located] = []
    dynamic: list[Located] = []
    wide: list[Located] = []
    for operation, location in _operations(graph, layers, None, set()):
        if operation.type in _ARGUMENTS:
            continue
        if runs_on_host(operation.type) and not _has_kernel(operation):
            hosts.append((operation, location))
        elif not _has_kernel(operation):
            refused.append((operation, location))
        elif is_dynamic(operation.type):
            dynamic.append((operation, location))
        is_computed = location is not None and operation.type != _CONSTANT
        if is_computed and any(output.dtype == tf.float64 for output in operation.outputs):
            wide.append((operation, location))
    findings = [
        Finding(FAILS, "operation", f"XLA cannot compile {_names(types)}", cure(types), p)
        for p, types in _by_location(_without_gradients(refused))
    ]
    findings += [
        Finding(
            WARNS,
            "host",
            f"{_names(types)} cannot be compiled; a TPU runs it on the host",
            "Remove it when you no longer need it: it takes time in every step.",
            p,
        )
        for p, types in _by_location(hosts)
    ]
    findings += [
        Finding(
            WARNS,
            "dynamic",
            f"the size of the result of {_names(types)} depends on the data",
            "It compiles for the largest possible size. If that is slow, use a mask instead of a "
            "selection, or move it to the input pipeline.",
            p,
        )
        for p, types in _by_location(dynamic)
    ]
    findings += [
        Finding(
            WARNS,
            "float64",
            f"{_names(types)} in float64, which a TPU emulates with several float32 operations",
            "Use float32, or keras.config.floatx() instead of a fixed dtype.",
            p,
        )
        for p, types in _by_location(wide)
    ]
    return findings


def _operations(
    graph: Any, layers: LayerLocations, called_at: SourceLocation | None, seen: set[str]
) -> Iterator[Located]:
    """Yields the operations of a graph, its branches, loops and functions, with locations."""
    for operation in needed_operations(graph, graph.outputs):
        location = operation_location(operation, layers) or called_at
        yield operation, location
        for name in _called(operation):
            if name not in seen:
                seen.add(name)
                function = graph._get_function(name)
                if function is not None:
                    yield from _operations(function.graph, layers, location, seen)


def _called(operation: Any) -> Iterator[str]:
    if operation.type == "SymbolicGradient" or runs_on_host(operation.type):
        return
    for value in operation.node_def.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for function in value.list.func:
            yield function.name


@functools.cache
def _register_kernels() -> None:
    """Compiles a constant, because TensorFlow registers XLA's kernels at the first compilation."""
    tf.function(lambda: tf.constant(0.0), jit_compile=True).experimental_get_compiler_ir()()


@functools.cache
def _kernels_of(operation_type: str) -> list[dict[str, frozenset[int]]]:
    """Returns the dtypes that each of XLA's kernels accepts, by attribute."""
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
    """Omits gradients of listed operations, which disappear together with them."""
    types = {operation.type for operation, location in located if location is not None}

    def is_gradient(operation: Any) -> bool:
        return any(operation.type != own and operation.type.startswith(own) for own in types)

    return [(o, location) for o, location in located if location is not None or not is_gradient(o)]


def _by_location(located: Iterable[Located]) -> list[tuple[SourceLocation | None, list[str]]]:
    """Groups operations by location, or by type if they have no location in the user's code."""
    grouped: dict[tuple[SourceLocation | None, str], list[str]] = {}
    for operation, location in located:
        key = (location, "" if location is not None else operation.type)
        grouped.setdefault(key, []).append(operation.type)
    return [(location, list(dict.fromkeys(types))) for (location, _), types in grouped.items()]


def _names(types: list[str]) -> str:
    return ", ".join(types)
