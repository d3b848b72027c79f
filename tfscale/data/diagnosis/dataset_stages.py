"""The stages of a `tf.data.Dataset`, found in its graph: one for each of its transformations.

A dataset is serialized, and a stage is the graph cut after one of its nodes. The walk goes from the
end towards the files and stops where the number of elements that a batch needs is not known any
more (`filter`, `interleave`, `flat_map`), or where a cache makes what comes before it idle. What is
left is one stage, "read". A dataset with more than 256 MiB of arrays in its graph is one stage.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfscale.data.diagnosis.stage import (
    Stage,
    Traits,
    calls_python,
    decodes,
    loops,
)

_TRANSPARENT = ("Prefetch", "Options", "Repeat", "AssertCardinality", "Shard", "Take", "Skip")
_MAPS = ("MapDataset", "ParallelMapDataset")
_BATCHES = ("BatchDataset", "ParallelBatchDataset", "PaddedBatchDataset")
_LARGEST_GRAPH = 2**28
_DATASET = re.compile(r"Dataset(V\d+)?$")


def dataset_stages(dataset: tf.data.Dataset, elements: int = 1) -> list[Stage]:
    """Returns the stages of a dataset in order; the last one is the whole dataset.

    Shuffle buffers are left out, because filling one would take the time of thousands of examples
    in each round.

    Args:
        dataset: Of batches, or of single examples. It must stay alive while stages are measured.
        elements: Elements that a step takes. Positive.
    """
    content = _serialized(dataset)
    if content is None:
        return [Stage("read", "read", "the dataset", lambda _: dataset.repeat(), elements)]
    graph = _Graph(dataset, content)
    found: list[Stage] = []
    node = end = graph.last
    while True:
        step = graph.step_of(node)
        if step is None:
            return [graph.stage(node, end, elements, "read", "read", "what comes first"), *found]
        if step.kind:
            name = _named(step.name, found)
            found.insert(0, graph.stage(node, end, elements, name, step.kind, step.text))
            end = step.before
        node, elements = step.before, elements * step.factor


def _serialized(dataset: tf.data.Dataset) -> bytes | None:
    """Returns the graph of a dataset, or None if it has no such form or contains large arrays."""
    try:
        content: bytes = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset),
            external_state_policy=1,
            strip_device_assignment=True,
        ).numpy()
    except tf.errors.OpError:  # it uses a resource, such as a table, or more than 2 GiB
        return None
    return content if len(content) <= _LARGEST_GRAPH else None


def _named(text: str, others: list[Stage]) -> str:
    names = {stage.name for stage in others}
    if text not in names:
        return text
    return next(f"{text} {n}" for n in range(2, len(names) + 3) if f"{text} {n}" not in names)


@dataclass(frozen=True)
class _Step:
    """A transformation: its kind, or "" if it costs nothing by itself."""

    kind: str
    name: str
    text: str
    before: Any
    factor: int


class _Graph:
    """The graph of a dataset."""

    def __init__(self, dataset: tf.data.Dataset, content: bytes) -> None:
        self._dataset = dataset  # its Python functions must stay alive
        self._definition = tf.compat.v1.GraphDef.FromString(content)
        self._nodes = {node.name: node for node in self._definition.node}
        self._functions = {f.signature.name: f for f in self._definition.library.function}
        self._result = next(n for n in self._definition.node if n.op == "_Retval")
        for node in self._definition.node:  # shuffles are skipped
            node.input[:] = [self._unshuffled(name) for name in node.input]
        self.last = self._before(self._result)

    def step_of(self, node: Any) -> _Step | None:
        """Returns what a node does, or None where the walk ends."""
        before = self._before(node)
        if before is None:
            return None
        if node.op.startswith(_TRANSPARENT):
            return _Step("", "", "", before, 1)
        if node.op.startswith(_MAPS):
            found = self._operations_of(node)
            kind = "decode" if decodes(found) else "preprocess"
            is_parallel = node.op.startswith("Parallel")
            text = "several calls at a time" if is_parallel else "one call at a time"
            return _Step(kind, f"map {self._function_name(node)}", text, before, 1)
        if node.op.startswith(_BATCHES):
            size = self._constant(node.input[1])
            if size is not None:
                return _Step("batch", f"batch of {size}", "joins elements", before, size)
        return None

    def stage(self, node: Any, end: Any, elements: int, name: str, kind: str, text: str) -> Stage:
        """Returns the stage of a node, with what follows it up to `end`."""
        found = self._operations_of(node) if kind != "read" else self._all_before(node)
        traits = Traits(
            python=calls_python(found),
            by_row=kind != "read" and loops(found),
            is_sequential=node.op.startswith("MapDataset"),
        )
        return Stage(name, kind, text, self._cut_after(end), elements, traits)

    def _cut_after(self, node: Any) -> Callable[[int], tf.data.Dataset]:
        shapes = node.attr["output_shapes"].list.shape
        named = next(name for name in ("output_types", "Toutput_types") if name in node.attr)
        spec = tuple(
            tf.TensorSpec(tf.TensorShape(shape), tf.dtypes.as_dtype(dtype))
            for dtype, shape in zip(node.attr[named].list.type, shapes, strict=True)
        )

        @functools.cache
        def made() -> tf.data.Dataset:
            assert self._dataset is not None
            self._result.input[0] = node.name
            variant = tf.raw_ops.DatasetFromGraph(graph_def=self._definition.SerializeToString())
            return tf.data.experimental.from_variant(variant, spec).repeat()

        return lambda round_: made()

    def _unshuffled(self, name: str) -> str:
        node = self._nodes.get(name)
        while node is not None and node.op.startswith("Shuffle"):
            name = node.input[0]
            node = self._nodes.get(name)
        return name

    def _before(self, node: Any) -> Any:
        """Returns the one dataset that a node takes, or None."""
        inputs = [self._nodes.get(name.partition(":")[0]) for name in node.input]
        datasets = [n for n in inputs if n is not None and _DATASET.search(n.op)]
        return datasets[0] if len(datasets) == 1 else None

    def _operations_of(self, node: Any) -> set[str]:
        """Returns the operations of the functions that a node calls."""
        names = _called_by(node)
        found = {node.op}
        seen: set[str] = set()
        while names:
            name = names.pop()
            if name in seen or name not in self._functions:
                continue
            seen.add(name)
            for inner in self._functions[name].node_def:
                found.add(inner.op)
                names += _called_by(inner)
        return found

    def _all_before(self, node: Any) -> set[str]:
        found: set[str] = set()
        waiting = [node]
        while waiting:
            current = waiting.pop()
            found |= self._operations_of(current)
            waiting += [self._nodes[n] for n in current.input if n in self._nodes]
        return found

    def _function_name(self, node: Any) -> str:
        name = node.attr["f"].func.name
        known = re.fullmatch(r"__inference_Dataset_map_(.+?)_\d+", name)
        return known[1] if known else name

    def _constant(self, name: str) -> int | None:
        node = self._nodes.get(name.partition(":")[0])
        if node is None or node.op != "Const":
            return None
        return int(tf.make_ndarray(node.attr["value"].tensor))


def _called_by(node: Any) -> list[str]:
    values = node.attr.values()
    return [value.func.name for value in values if value.WhichOneof("value") == "func"]
