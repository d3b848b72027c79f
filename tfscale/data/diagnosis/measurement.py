"""Measures an input, and with a model a training, for the diagnosis."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from strategies.extension import all_on
from tfscale.data.diagnosis.dataset_stages import dataset_stages
from tfscale.data.diagnosis.diagnosis import LARGEST_TINY_BATCH
from tfscale.data.diagnosis.figures import Figures, costs_of
from tfscale.data.diagnosis.memory_batches import (
    PipelineInMemory,
    batch_of,
    dataset_in_memory,
    repeated_rows,
    size_in_bytes,
)
from tfscale.data.diagnosis.pipeline_stages import pipeline_stages
from tfscale.data.diagnosis.stage import Stage
from tfscale.data.diagnosis.training import Training
from tfscale.data.diagnosis.turns import Turn, take_in_turns
from tfscale.data.pipeline import Pipeline
from tfscale.data.sources import EqualBatches, RandomAccessSource

_LARGER_BY = 8
_LARGER_BYTES = 2**28  # no larger batch is made for the comparison

Say = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        figures: For the diagnosis.
        turns: The turns of everything that was measured, by name: "up to STAGE", "memory",
            "larger", "transfer", "model", "training", "model_larger".
        stages: The stages of the input.
    """

    figures: Figures
    turns: Mapping[str, list[Turn]]
    stages: list[Stage] = field(default_factory=list)


def measured(
    data: Pipeline | tf.data.Dataset,
    model: Any = None,
    *,
    rounds: int = 5,
    seconds: float = 0.5,
    processor_seconds: Callable[[], float] = time.process_time,
    say: Say = lambda line: None,
) -> Measurement:
    """Measures the stages of an input in turns, and training with and without it.

    Args:
        data: A pipeline, or a dataset of global batches.
        model: Compiled, under the strategy of the pipeline; None to measure the input only. It is
            trained, so its variables change.
        rounds: Counted rounds. Positive.
        seconds: Wall time of a turn.
        processor_seconds: Returns the processor time that was used so far.
        say: Prints a line of progress.
    """
    if isinstance(data, Pipeline):
        stages, in_memory = pipeline_stages(data), PipelineInMemory(data)
        stored, elements = in_memory.replica_batches(0), data.local_replicas
        batch = batch_of(data.local(0), elements)
    else:
        stages, in_memory = dataset_stages(data), dataset_in_memory(data)
        stored, elements, batch = in_memory, 1, batch_of(data, 1)
    some = next(iter(data.local(0) if isinstance(data, Pipeline) else data))
    batch_bytes = max(1, size_in_bytes(some) * elements)
    batch_size = _batch_size(data, some)
    read = [*stages, Stage(_MEMORY, "read", "", lambda _: stored, elements)]
    is_small = batch_size <= LARGEST_TINY_BATCH and batch_bytes * _LARGER_BY <= _LARGER_BYTES
    larger = _with_larger(data) if isinstance(data, Pipeline) and is_small else None
    if larger is not None:
        read.append(dataclasses.replace(pipeline_stages(larger)[-1], name=_LARGER))
    turns = take_in_turns(read, processor_seconds, rounds=rounds, seconds=seconds, say=say)
    more: dict[str, list[Turn]] = {}
    if isinstance(data, Pipeline) and not all_on("CPU", data.strategy):
        more["transfer"] = _transfers(data, some, rounds)
    if model is not None:
        trainings = {"model": in_memory, "training": data}
        if not isinstance(data, Pipeline):
            trainings["training"] = data.repeat()
        if is_small and batch is not None:
            trainings["model_larger"] = repeated_rows(batch, _LARGER_BY)
        more |= _trained(model, trainings, processor_seconds, rounds, seconds, say)
    figures = Figures(
        costs=costs_of(stages, dict(turns)),
        total=_seconds(turns[stages[-1].name]),
        memory=_seconds(turns[_MEMORY]),
        batch_size=batch_size,
        batch_bytes=batch_bytes,
        larger=_seconds(turns.get(_LARGER, [])),
        larger_by=_LARGER_BY,
        **{name: _seconds(of) for name, of in more.items()},
    )
    return Measurement(figures, {**turns, **more}, stages)


_MEMORY, _LARGER = "a batch in memory", "larger batches"


def _seconds(turns: list[Turn]) -> tuple[float, ...]:
    return tuple(turn.seconds for turn in turns)


def _batch_size(data: Pipeline | tf.data.Dataset, some: Any) -> int:
    if isinstance(data, Pipeline):
        return data.global_batch_size
    first = tf.nest.flatten(some, expand_composites=True)[0]
    return max(1, int(tf.shape(first)[0])) if first.shape.rank else 1


def _with_larger(pipeline: Pipeline) -> Pipeline | None:
    """Returns the pipeline with larger batches, or None if it has too few examples."""
    size = pipeline.global_batch_size * _LARGER_BY
    if size > pipeline.source.num_examples:
        return None
    source = pipeline.source
    if isinstance(source, RandomAccessSource):
        division = source.division(size, drop_remainder=pipeline.drop_remainder)
    else:
        division = EqualBatches(source.num_examples, size, pipeline.drop_remainder)
    return dataclasses.replace(pipeline, division=division, first_step=0)


def _transfers(pipeline: Pipeline, batch: Any, rounds: int) -> list[Turn]:
    """Copies a replica batch to every local device, and waits until it has arrived."""
    parts = tf.nest.flatten(batch, expand_composites=True)
    devices = pipeline.strategy.extended.worker_devices[: pipeline.local_replicas]
    turns = []
    for _ in range(rounds + 1):
        began, used = time.perf_counter(), time.process_time()
        copies = []
        for device in devices:
            with tf.device(device):
                copies.append([tf.identity(part) for part in parts])
        for copy in copies:  # reading one number of the last part waits for the copies before it
            tf.reshape(copy[-1], [-1])[:1].numpy()
        turns.append(Turn(time.perf_counter() - began, time.process_time() - used))
    return turns[1:]


def _trained(
    model: Any,
    inputs: Mapping[str, Any],
    processor_seconds: Callable[[], float],
    rounds: int,
    seconds: float,
    say: Say,
) -> dict[str, list[Turn]]:
    trainings = {name: Training(model, x, processor_seconds) for name, x in inputs.items()}
    for training in trainings.values():
        training.prepare(seconds)
    say("training: every variant has run once")
    turns: dict[str, list[Turn]] = {name: [] for name in trainings}
    for round_ in range(rounds):
        order = list(trainings) if round_ % 2 else list(trainings)[::-1]
        for name in order:
            turns[name].append(trainings[name].turn())
        say(f"training: round {round_ + 1} of {rounds}")
    return turns
