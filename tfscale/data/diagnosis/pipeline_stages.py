"""The stages of a `Pipeline`, each as the pipeline without what comes after it.

A stage is measured as a pipeline that ends there: with the same order, cut, parallel calls and
read-ahead, so that the difference of two neighbouring stages is what the later one costs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfscale.data.cache.cached_source import CachedSource
from tfscale.data.diagnosis.dataset_stages import dataset_stages
from tfscale.data.diagnosis.stage import Stage, Traits, calls_python, loops, traced_operations
from tfscale.data.order import Order
from tfscale.data.pipeline import Pipeline
from tfscale.data.sources import Division, RandomAccessSource, StreamSource
from tfscale.data.sources.indexed import IndexedReader

_WINDOW = 64  # a full shuffle buffer would take the time of thousands of examples each round


def pipeline_stages(pipeline: Pipeline) -> list[Stage]:
    """Returns the stages of a pipeline in order; the last one is the whole pipeline.

    Args:
        pipeline: Measured as the first worker reads it.
    """
    pipeline = dataclasses.replace(pipeline, shuffle_window=_WINDOW)
    bare = dataclasses.replace(
        pipeline, preprocess=None, augment=None, remainder=_unpadded(pipeline.remainder)
    )
    source = pipeline.source
    if isinstance(source, StreamSource):
        stages = _stream_stages(source, bare)
    else:
        stages = _source_stages(source, bare)
    if pipeline.preprocess is not None:
        prepared = dataclasses.replace(bare, preprocess=pipeline.preprocess)
        stages.append(_function_stage("preprocess", prepared, pipeline.preprocess, bare))
        bare = prepared
    if pipeline.augment is not None:
        stages.append(_function_stage("augment", pipeline, pipeline.augment, bare, _SEEDS))
    return [*stages[:-1], dataclasses.replace(stages[-1], dataset=_make(pipeline))]


_SEEDS = tf.TensorSpec([None, 2], tf.int64)


def _source_stages(source: RandomAccessSource, bare: Pipeline) -> list[Stage]:
    def ending(take: Callable[[tf.Tensor], Any]) -> Callable[[int], tf.data.Dataset]:
        return _make(dataclasses.replace(bare, source=_Until(source, take)))

    elements = bare.local_replicas
    first = Stage("order", "order", "which examples a batch has", ending(tf.identity), elements)
    reading = source.take_encoded if source.is_encoded else source.take
    what = "bytes of the examples" if source.is_encoded else "examples of the source"
    stages = [
        first,
        Stage("read", "read", what, ending(reading), elements, _reading_traits(source)),
    ]
    if source.is_encoded:
        stages.append(Stage("decode", "decode", "bytes to examples", _make(bare), elements))
    return stages


def _stream_stages(source: StreamSource, bare: Pipeline) -> list[Stage]:
    # `batch` comes after: a step takes so many single examples.
    stages = dataset_stages(source.dataset, bare.global_batch_size)
    return [
        *stages,
        Stage("batch", "batch", "examples to batches", _make(bare), bare.local_replicas),
    ]


def _function_stage(
    kind: str, pipeline: Pipeline, function: Callable[..., Any], before: Pipeline, *more: Any
) -> Stage:
    found = traced_operations(function, before.element_spec, *more)
    name = getattr(function, "__name__", type(function).__name__)
    traits = Traits(python=calls_python(found), by_row=loops(found))
    return Stage(kind, kind, f"{name}()", _make(pipeline), pipeline.local_replicas, traits)


def _reading_traits(source: RandomAccessSource) -> Traits:
    parts = _read_parts(source)
    readers = [getattr(part, "reader", None) for part in parts]
    python = [reader for reader in readers if isinstance(reader, IndexedReader)]
    return Traits(
        python=bool(python),
        read_workers=min((reader.read_workers for reader in python), default=None),
        is_cached=any(isinstance(part, CachedSource) for part in parts),
    )


def _read_parts(source: RandomAccessSource) -> list[RandomAccessSource]:
    """Returns a source and those that it reads; a cache does not read its source any more."""
    inner = () if isinstance(source, CachedSource) else source.parts
    return [source, *(each for part in inner for each in _read_parts(part))]


def _make(pipeline: Pipeline) -> Callable[[int], tf.data.Dataset]:
    return lambda round_: pipeline.at(pipeline.first_epoch + round_).replica_batches(0)


def _unpadded(remainder: str) -> str:
    return "keep" if remainder == "pad" else remainder


class _Until(RandomAccessSource):
    """A source whose examples are taken by another function, in the same order."""

    def __init__(self, source: RandomAccessSource, take: Callable[[tf.Tensor], Any]) -> None:
        self._source, self._take = source, take
        self.num_examples, self.fingerprint = source.num_examples, source.fingerprint

    def take(self, indices: tf.Tensor) -> Any:
        """Returns what the function returns."""
        return self._take(indices)

    @property
    def num_indices(self) -> int:
        """Those of the source."""
        return self._source.num_indices

    def indices(self, positions: tf.Tensor, epochs: tf.Tensor, order: Order) -> tf.Tensor:
        """Returns the indices of the source."""
        return self._source.indices(positions, epochs, order)

    def division(self, batch_size: int, *, drop_remainder: bool) -> Division:
        """Returns the division of the source."""
        return self._source.division(batch_size, drop_remainder=drop_remainder)
