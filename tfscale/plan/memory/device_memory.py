"""The memory of each device: what the replicas divide, what each has whole, and when it is most.

With R replicas, parameters of P bytes, gradients of G bytes and slots of S bytes (ZeRO, Rajbhandari
et al. 2020, arXiv:1910.02054, section 5):

    shard    parameters    slots    gradients, once they are reduced
    0        P             S        G
    1        P             S / R    G
    2        P             S / R    G / R
    3        P / R         S / R    G / R
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tfscale.plan.memory.blocks import Blocks
from tfscale.plan.memory.liveness import Moment, moments_of_threads
from tfscale.plan.memory.pipelined_step import Staging, pipelined
from tfscale.plan.memory.replicated_step import Replication, replica_step
from tfscale.plan.memory.traced_model import (
    PARAMETER,
    SLOT,
    StepMemory,
    TracedModel,
    VariableMemory,
)

SHARDS = (0, 1, 2, 3)
_THREADS = 2
"""More threads update more variables at a time; a GPU computes one operation after another."""


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on a device, when a step needs most of it.

    Attributes:
        parameters: Weights, trainable or not.
        slots: The optimizer's variables.
        other: Variables of metrics and random seeds, on a replica's first device.
        batch: The examples of a replica batch, on its first device.
        gradients: Gradients of the parameters, and their sums over microbatches.
        activations: What the step computes from the batch and keeps for the backward pass, casts of
            parameters included.
        buffers: What travels between replicas: the packed gradients, gathered parameters.
        padding: What the allocator's blocks take beyond gradients, activations and buffers.
        peak_at: When that is: "forward", "backward", "reduce" or "update".
    """

    parameters: int
    slots: int
    other: int
    batch: int
    gradients: int
    activations: int
    buffers: int
    padding: int
    peak_at: str

    @property
    def total(self) -> int:
        """The sum of all parts."""
        kept = self.parameters + self.slots + self.other + self.batch
        return kept + self.made + self.padding

    @property
    def made(self) -> int:
        """What a step makes: gradients, activations and buffers."""
        return self.gradients + self.activations + self.buffers


@dataclass(frozen=True)
class Devices:
    """The devices of a replica.

    Attributes:
        count: Positive.
        staging: The stages of a pipeline, of which each is on a device; None of none.
        are_apart: Whether each has memory of its own. The logical CPUs of a host have not.
    """

    count: int = 1
    staging: Staging | None = None
    are_apart: bool = True

    def of(self, place: int) -> int:
        """Returns the device of one of `TracedModel.places`."""
        if not self.are_apart:
            return 0
        return place if self.staging is None else self.staging.stage_of(place)


def device_memories(
    model: TracedModel, step: StepMemory, how: Replication, devices: Devices
) -> tuple[list[DeviceMemory], list[int]]:
    """Returns the memory of each device of a replica, and the bytes it sends to the others of it.

    Args:
        model: The model.
        step: A step of it, on the examples of one replica and microbatch.
        how: How many replicas there are, and what they divide.
        devices: Those of the replica.
    """
    graph, turns = step.graph, how.microbatches
    if devices.staging is not None:
        graph, turns = pipelined(graph, devices.staging, how.microbatches), 1
    own = replica_step(
        graph, model.parameters(how.replicas), dataclasses.replace(how, microbatches=turns)
    )
    if not devices.are_apart:
        own.put_on_one_device()
    sent = own.copy_between_devices(graph.reads)
    count = devices.count if devices.are_apart else 1
    blocks = [Blocks() for _ in range(count)]
    here: list[list[VariableMemory]] = [[] for _ in range(count)]
    for variable, place in zip(model.variables, model.places, strict=True):
        here[devices.of(place)].append(variable)
    # Replicas of one device share the memory of their process, as on a host.
    sharing = how.replicas // how.workers if devices.count == 1 else 1
    for own_blocks, variables in zip(blocks, here, strict=True):
        for size in [*_stored_sizes(variables, how)] * sharing:
            own_blocks.take(size)
    stored = [each.used for each in blocks]
    most = [Moment(device=device) for device in range(count)]
    for moment in moments_of_threads(own.operations, own.tensors, threads=_THREADS, blocks=blocks):
        if moment.total > most[moment.device].total:
            most[moment.device] = moment
    found = []
    for device, moment in enumerate(most):
        parameters, slots = model.stored_bytes(here[device], how.replicas, how.shard)
        found.append(
            DeviceMemory(
                parameters=parameters,
                slots=slots,
                other=0 if device else model.other_bytes,
                batch=0 if device else step.batch_bytes * how.microbatches,
                gradients=moment.gradients,
                activations=moment.activations + moment.weight_copies,
                buffers=moment.buffers,
                padding=max(0, blocks[device].peak - stored[device] - moment.total),
                peak_at=own.phases[moment.operation],
            )
        )
    return found, [sent[device] * turns for device in range(count)]


def _stored_sizes(variables: Iterable[VariableMemory], how: Replication) -> Iterator[int]:
    """Yields the sizes of what a replica has of variables."""
    for variable in variables:
        is_divided = how.shard >= 1 if variable.role == SLOT else how.shard == 3
        if variable.role in (SLOT, PARAMETER) and is_divided:
            yield -(-variable.bytes // how.replicas)
        else:
            yield variable.bytes
