"""A traced model on the devices of a replica: memory of each, where stages begin, what is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tfscale.plan.memory.costs import communicated_bytes
from tfscale.plan.memory.device_memory import DeviceMemory, Devices, device_memories
from tfscale.plan.memory.model_parallel import Division
from tfscale.plan.memory.pipelined_step import Staging
from tfscale.plan.memory.replicated_step import Replication
from tfscale.plan.memory.traced_model import PARAMETER, StepMemory, TracedModel


@dataclass(frozen=True)
class ReplicaMemory:
    """The memory of a replica.

    Attributes:
        devices: By device.
        stages: Names of the operations at which runs of layers begin, but for the first.
        communicated_bytes: Bytes that the device sends a step that sends most.
    """

    devices: tuple[DeviceMemory, ...]
    stages: tuple[str, ...]
    communicated_bytes: int

    @property
    def largest(self) -> DeviceMemory:
        """That of the device that needs most."""
        return max(self.devices, key=lambda each: each.total)


class PlannedModel:
    """A traced model that devices divide.

    Args:
        model: The model.
        is_pipeline: Whether it is to be cut into stages. Changes the model.
        names: Of its operations, in order.

    Raises:
        ValueError: If it cannot be cut.
    """

    def __init__(self, model: TracedModel, is_pipeline: bool, names: Sequence[str]) -> None:
        self._model, self._names = model, names
        self._pieces: Sequence[int] = model.cut() if is_pipeline else ()

    def on_devices(
        self, step: StepMemory, how: Replication, division: Division, *, are_apart: bool = True
    ) -> ReplicaMemory:
        """Returns the memory of the devices of a replica.

        Args:
            step: A step of one replica and microbatch.
            how: How many replicas there are, and what they divide.
            division: How the devices of a replica divide the model.
            are_apart: See `Devices`.

        Raises:
            ValueError: If the model has too few parts for so many stages.
        """
        model, staging = self._model, None
        names: tuple[str, ...] = ()
        if division.pipeline_stages > 1:
            places = model.balanced(step, self._pieces, division.runs)
            names = tuple(self._names[place] for place in places)
            begins = tuple(1 + list(self._pieces).index(place) for place in places)
            staging = Staging(
                division.pipeline_stages,
                division.pipeline_schedule,
                division.pipeline_virtual_stages,
                begins,
            )
        devices = Devices(division.devices, staging, are_apart)
        memories, sent = device_memories(model, step, how, devices)
        parameters, gradients = self._by_device(step, how, devices)
        most = max(
            own
            + communicated_bytes(
                parameters[device],
                gradients[device],
                replicas=how.replicas,
                shard=how.shard,
                microbatches=how.microbatches,
                is_pipeline=staging is not None,
            )
            for device, own in enumerate(sent)
        )
        return ReplicaMemory(tuple(memories), names, most)

    def _by_device(
        self, step: StepMemory, how: Replication, devices: Devices
    ) -> tuple[Counter[int], Counter[int]]:
        """Returns bytes of trainable parameters and of their gradients, by device."""
        model = self._model
        parameters: Counter[int] = Counter()
        gradients: Counter[int] = Counter()
        for variable, place in zip(model.variables, model.places, strict=True):
            if variable.role == PARAMETER:
                parameters[devices.of(place)] += variable.bytes
        sizes = step.packed_gradients if how.shard == 0 else step.dense_gradients
        for gradient, size in zip(step.graph.gradients, sizes, strict=True):
            gradients[devices.of(model.trainable_places[gradient.parameter])] += size
        return parameters, gradients
