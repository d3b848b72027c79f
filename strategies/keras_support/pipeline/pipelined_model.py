"""Which models are computed as a pipeline, and how."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from strategies.keras_support.patching.needs import Need, require
from strategies.keras_support.pipeline.chunk_layer import ChunkLayer, entered
from strategies.keras_support.pipeline.model_cut import Chunk, chunks_at, graph_of, inputs_of
from strategies.keras_support.pipeline.schedule import Unit, device_orders, timeline
from strategies.keras_support.pipeline.shared_weights import owners
from strategies.keras_support.placement.replica_devices import devices_by_replica
from strategies.keras_support.placement.variable_devices import move

_PIPELINES: weakref.WeakKeyDictionary[Any, PipelinedModel] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class PipelinedModel:
    """How a model is computed as a pipeline.

    Attributes:
        graph: The model's graph of operations.
        chunks: Consecutive parts of the model.
        layers: That compute them.
        stages: Devices of a replica.
        microbatches: Of a replica batch.
        units: All units, each after those that it needs.
        times: When each unit of the first replica began and ended in the newest step, in seconds:
            [units, 2], in the order of `units`; None if they are not timed.
    """

    graph: Any
    chunks: tuple[Chunk, ...]
    layers: tuple[ChunkLayer, ...]
    stages: int
    microbatches: int
    units: tuple[Unit, ...]
    times: Any

    def stage_of(self, chunk: int) -> int:
        """Returns the stage, so the device of a replica, that computes a chunk."""
        return chunk % self.stages

    def given(self, x: Any) -> dict[int, Any]:
        """Returns the tensors of a batch by the ids of the model's symbolic inputs."""
        tensors = inputs_of(self.graph, x)
        return {id(t): value for t, value in zip(self.graph.inputs, tensors, strict=True)}

    def packed(self, known: dict[int, Any]) -> Any:
        """Returns the model's outputs as its `call` does, from tensors by symbolic ids."""
        outputs = [known[id(t)] for t in self.graph.outputs]
        whole = keras.tree.pack_sequence_as(self.graph._outputs_struct, outputs)
        return whole[0] if isinstance(whole, (list, tuple)) and len(whole) == 1 else whole

    def forward(self, x: Any, devices: Sequence[str]) -> Any:
        """Computes the model stage by stage, without training.

        Args:
            x: A batch.
            devices: Of this replica.
        """
        known = self.given(x)
        for c, (chunk, layer) in enumerate(zip(self.chunks, self.layers, strict=True)):
            with tf.device(devices[self.stage_of(c)]):
                inputs = [entered(known[id(t)]) for t in chunk.inputs]
                outputs = layer(inputs, training=False)
            known |= {id(t): value for t, value in zip(chunk.inputs, inputs, strict=True)}
            known |= {id(t): value for t, value in zip(chunk.outputs, outputs, strict=True)}
        return self.packed(known)


def train_as_pipeline(
    model: Any,
    places: Sequence[int],
    microbatches: int,
    schedule: str,
    virtual_stages: int,
    *,
    is_timed: bool = False,
) -> PipelinedModel:
    """Lets every later `fit`, `evaluate` and `predict` of a model run as a pipeline.

    The model's weights, and the slots of its optimizer, move to the devices of their stages.

    Args:
        model: A Functional or built Sequential model under a strategy of this package.
        places: Where chunks begin, but for the first: see `model_cut`.
        microbatches: Of a replica batch. Positive.
        schedule: One of `schedule.SCHEDULES`.
        virtual_stages: Chunks of a device.
        is_timed: Whether each step notes when its units run.
    """
    require(Need.PIPELINES)
    strategy = model.distribute_strategy
    devices = devices_by_replica(strategy)
    stages = len(devices[0])
    graph = graph_of(model)
    chunks = chunks_at(graph, places)
    orders = device_orders(schedule, stages, microbatches, virtual_stages)
    units = tuple(timeline(orders).in_order_of_begin())
    times = None
    with tf.init_scope(), tf.device("CPU:0"):
        if is_timed:
            times = ResourceVariable(tf.zeros([len(units), 2], tf.float64), trainable=False)
    layers = tuple(ChunkLayer(chunk, model.dtype_policy) for chunk in chunks)
    pipeline = PipelinedModel(graph, tuple(chunks), layers, stages, microbatches, units, times)
    optimizer = getattr(model, "optimizer", None)  # compiled later
    first = owners(chunks)
    for c, chunk in enumerate(chunks):
        own = [of_replica[pipeline.stage_of(c)] for of_replica in devices]
        for weight in (v for v in chunk.weights if first[id(v)] == c):
            move(weight, strategy, own)
            for slot in _slots_of(optimizer, weight):
                move(slot, strategy, own)
    _know_moved_variables(optimizer)
    _PIPELINES[model] = pipeline
    model.train_function = model.test_function = model.predict_function = None
    return pipeline


def pipeline_of(model: Any) -> PipelinedModel | None:
    """Returns how a model is computed as a pipeline, or None if it is not."""
    return _PIPELINES.get(model)


def _slots_of(optimizer: Any, weight: Any) -> list[Any]:
    """Returns the variables that a built optimizer keeps for one weight."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if inner is None or not inner.built:
        return []
    weights = inner._trainable_variables
    place = next((i for i, each in enumerate(weights) if each is weight), None)
    if place is None:
        return []
    lists = [
        slots
        for name, slots in vars(inner).items()
        # `_variables` are all of the optimizer's, which may be as many
        if isinstance(slots, (list, tuple)) and name != "_variables"
    ]
    return [
        slots[place]
        for slots in lists
        if len(slots) == len(weights)
        and isinstance(slots[place], keras.Variable)
        and slots[place] is not weight
    ]


def _know_moved_variables(optimizer: Any) -> None:
    """Lets a built optimizer find the slots of weights that have moved."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if inner is not None and inner.built:
        weights = enumerate(inner._trainable_variables)
        inner._trainable_variables_indices = {inner._var_key(v): i for i, v in weights}
