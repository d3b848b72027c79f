"""What a served pipeline is made of, to compare those of a data worker and of a trainer."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data.composition.function_key import function_key
from tfscale.data.pipeline import Pipeline
from tfscale.data.sources import ArraySource, RandomAccessSource

_ROWS = 256

Description = dict[str, str]
"""Parts of a pipeline by name; equal for pipelines with equal batches."""


def description(pipeline: Pipeline) -> Description:
    """Describes what the batches of a pipeline follow from.

    The global batch size is not part of it: a request has it. Arrays are compared by their shapes
    and 256 of their rows, functions by what `function_key` can find, else by their name.

    Args:
        pipeline: Of a source with random access.
    """
    source = pipeline.source
    assert isinstance(source, RandomAccessSource)
    return {
        "source": source.fingerprint,
        "rows of arrays": _rows_of_arrays(source),
        "shuffle": pipeline.order.description,
        "seed": str(pipeline.seed),
        "remainder": pipeline.remainder,
        "preprocess": _function(pipeline.preprocess),
        "augment": _function(pipeline.augment),
    }


def digest(descriptions: list[Description]) -> str:
    """Returns a hash of the descriptions of all pipelines that are served together."""
    return hashlib.sha256(json.dumps(descriptions, sort_keys=True).encode()).hexdigest()


def difference(own: list[Description], other: list[Description]) -> str:
    """Names the first difference between pipelines here and in a data worker.

    Returns:
        Such as "`seed` of pipeline 0 is 1 here and 2 there"; empty if there is none.
    """
    if len(own) != len(other):
        return f"the number of pipelines is {len(own)} here and {len(other)} there"
    for number, (here, there) in enumerate(zip(own, other, strict=True)):
        for name in sorted({*here, *there}):
            if here.get(name) != there.get(name):
                return (
                    f"`{name}` of pipeline {number} is {here.get(name)} here and "
                    f"{there.get(name)} there"
                )
    return ""


def _rows_of_arrays(source: RandomAccessSource) -> str:
    if not isinstance(source, ArraySource):
        parts = [_rows_of_arrays(part) for part in source.parts]
        return ", ".join(part for part in parts if part)
    count = min(_ROWS, source.num_examples)
    rows = np.unique(np.linspace(0, source.num_examples - 1, count).astype(np.int64))
    found = hashlib.sha256()
    for part in tf.nest.flatten(source.take(tf.constant(rows)), expand_composites=True):
        found.update(tf.io.serialize_tensor(part).numpy())
    return found.hexdigest()[:32]


def _function(function: Any) -> str:
    if function is None:
        return "none"
    name = str(getattr(function, "__qualname__", type(function).__qualname__))
    key = function_key(function)
    return name if key is None else f"{name}, code {key[:32]}"
