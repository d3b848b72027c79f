"""The memory of one device: what the replicas divide, what each has whole, and when it is most.

With R replicas, parameters of P bytes, gradients of G bytes and slots of S bytes (ZeRO, Rajbhandari
et al. 2020, arXiv:1910.02054, section 5):

    shard    parameters    slots    gradients, once they are reduced
    0        P             S        G
    1        P             S / R    G
    2        P             S / R    G / R
    3        P / R         S / R    G / R
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tfscale.plan.blocks import Blocks
from tfscale.plan.liveness import moments_of_threads
from tfscale.plan.replicated_step import Replication, replica_step
from tfscale.plan.traced_model import OTHER, PARAMETER, SLOT, StepMemory, TracedModel

SHARDS = (0, 1, 2, 3)
_THREADS = 2
"""More threads update more variables at a time; a GPU computes one operation after another."""


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on the device that needs most, when a step needs most.

    Attributes:
        parameters: Weights, trainable or not.
        slots: The optimizer's variables.
        other: Variables of metrics and random seeds.
        batch: The examples of a replica batch.
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


def device_memory(model: TracedModel, step: StepMemory, how: Replication) -> DeviceMemory:
    """Returns the memory of the device that needs most.

    Args:
        model: The model.
        step: A step of it, on the examples of one replica and microbatch.
        how: How many replicas there are, and what they divide.
    """
    own = replica_step(step.graph, model.parameters(how.replicas), how)
    parameters, slots = model.stored_bytes(how.replicas, how.shard)
    blocks = Blocks()
    for size in _stored_sizes(model, how):
        blocks.take(size)
    stored = blocks.used
    during = moments_of_threads(own.operations, own.tensors, threads=_THREADS, blocks=blocks)
    most = max(during, key=lambda moment: moment.total)
    phase = own.phases[most.operation]
    return DeviceMemory(
        parameters=parameters,
        slots=slots,
        other=sum(variable.bytes for variable in model.variables if variable.role == OTHER),
        batch=step.batch_bytes * how.microbatches,
        gradients=most.gradients,
        activations=most.activations + most.weight_copies,
        buffers=most.buffers,
        padding=max(0, blocks.peak - stored - most.total),
        peak_at=phase,
    )


def _stored_sizes(model: TracedModel, how: Replication) -> Iterator[int]:
    """Yields the sizes of the variables of a process, which shares its memory as a host does."""
    for _ in range(how.replicas // how.workers):
        for variable in model.variables:
            is_divided = how.shard >= 1 if variable.role == SLOT else how.shard == 3
            if variable.role in (SLOT, PARAMETER) and is_divided:
                yield -(-variable.bytes // how.replicas)
            else:
                yield variable.bytes
