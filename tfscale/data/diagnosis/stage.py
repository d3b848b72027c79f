"""A stage of an input, and what can be seen in the graphs of its functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

KINDS = ("order", "read", "decode", "preprocess", "augment", "batch")
"""What a stage does. The advice depends on it."""

_PYTHON = ("PyFunc", "EagerPyFunc", "PyFuncStateless", "GeneratorDataset")
_DECODING = ("Decode", "ParseExample", "ParseSingle", "ParseTensor")
_LOOPS = ("While", "StatelessWhile")


@dataclass(frozen=True)
class Traits:
    """What the graph of a stage contains.

    Attributes:
        python: Whether it calls Python for every batch or example.
        by_row: Whether it works on one row after the other: `tf.map_fn`, or another loop.
        is_sequential: Whether it is a `Dataset.map` without `num_parallel_calls`.
        read_workers: Processes that read for a Python dataset; None if it is none.
        is_cached: Whether it reads a cache of `tfscale.data.cached`.
    """

    python: bool = False
    by_row: bool = False
    is_sequential: bool = False
    read_workers: int | None = None
    is_cached: bool = False


@dataclass(frozen=True)
class Stage:
    """The input up to and including a stage.

    Attributes:
        name: Different from all other stages of the input.
        kind: One of `KINDS`.
        text: What the stage does.
        dataset: Makes an endless dataset of what the stage yields, from a round, which is not
            negative. Different rounds may begin at different examples.
        elements: Elements of `dataset` for one step. Positive.
        traits: What the graph of the stage contains.
    """

    name: str
    kind: str
    text: str
    dataset: Callable[[int], tf.data.Dataset]
    elements: int
    traits: Traits = Traits()


def operations(definition: Any) -> set[str]:
    """Returns the types of all operations of a `GraphDef`, with those of its functions."""
    found = {node.op for node in definition.node}
    for function in definition.library.function:
        found.update(node.op for node in function.node_def)
    return found


def traced_operations(function: Callable[..., Any], *specs: Any) -> set[str]:
    """Returns the types of the operations that `function` has for arguments of `specs`."""
    traced = tf.function(function).get_concrete_function(*specs)
    return operations(traced.graph.as_graph_def())


def calls_python(found: Iterable[str]) -> bool:
    """Returns whether operations call Python.

    Example:
        >>> calls_python({"AddV2", "PyFunc"})
        True
    """
    return any(name in _PYTHON for name in found)


def decodes(found: Iterable[str]) -> bool:
    """Returns whether operations decode or parse examples.

    Example:
        >>> decodes({"DecodeJpeg", "Cast"})
        True
    """
    return any(name.startswith(_DECODING) for name in found)


def loops(found: Iterable[str]) -> bool:
    """Returns whether operations contain a loop, as `tf.map_fn` does."""
    return any(name in _LOOPS for name in found)
