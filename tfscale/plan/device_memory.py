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

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tfscale.plan.liveness import Moment
from tfscale.plan.traced_model import OTHER, StepMemory, TracedModel

SHARDS = (0, 1, 2, 3)
BACKWARD = "backward"
REDUCE = "reduce"
UPDATE = "update"
_LAYERS_GATHERED = 2
"""With shard 3 a layer is used while the next one is gathered."""
_GRADIENT_PACK = 2**24
_PARAMETER_PACK = 2**24
"""Bytes that workers reduce, or gather, at a time (`strategies.keras_support.sharding`)."""


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
        peak_at: When that is: "backward", "reduce" or "update".
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


def device_memory(
    model: TracedModel, step: StepMemory, *, replicas: int, shard: int, microbatches: int
) -> DeviceMemory:
    """Returns the memory of the device that needs most.

    Args:
        model: The model.
        step: A step of it, on the examples of one replica and microbatch.
        replicas: Positive.
        shard: What is divided over the replicas: 0 nothing, 1 slots, 2 and gradients, 3 and
            parameters.
        microbatches: Parts of a replica batch, one after the other. Positive.
    """
    if replicas == microbatches == 1:
        phases = [_part(BACKWARD, max(step.graph.overlapped, key=lambda moment: moment.total))]
    else:
        phases = _phases(model, step, replicas, shard, microbatches)
    parameters, slots = model.stored_bytes(replicas, shard)
    most = max(phases, key=lambda phase: phase.total)
    return replace(
        most,
        parameters=parameters,
        slots=slots,
        other=sum(variable.bytes for variable in model.variables if variable.role == OTHER),
        batch=step.batch_bytes * microbatches,
        padding=round(step.graph.padding * most.made),
    )


def _phases(
    model: TracedModel, step: StepMemory, replicas: int, shard: int, microbatches: int
) -> list[DeviceMemory]:
    """Returns what is needed besides variables and batch in each phase of a step."""
    graph = step.graph
    sizes = step.gradients if shard == 0 else step.dense_gradients
    whole, largest = sum(sizes), max(sizes)
    # Microbatches add up whole gradients before they are reduced; those of gathered parameters are
    # reduced as they come.
    is_divided = shard == 3 or (shard == 2 and microbatches == 1)
    kept = -(-whole // replicas) if is_divided else whole
    gathered = most_consecutive(model.layers) if shard == 3 else 0
    backward = max(
        (
            _backward(moment, kept, largest, is_divided, microbatches, gathered / sum(model.layers))
            for moment in graph.backward
        ),
        key=lambda phase: phase.total,
    )
    if gathered:
        buffers = backward.buffers + gathered + max(model.layers)
        backward = replace(backward, buffers=buffers)
    late = graph.backward[-1].activations
    scratch = max((moment.activations for moment in graph.update), default=late) - late
    if shard >= 1:
        scratch = -(-scratch // replicas)
    gathering = 0
    if replicas > 1 and shard in (1, 2):
        gathering = 2 * min(sum(model.layers), max(_PARAMETER_PACK, *step.dense_gradients))
    found = [backward, _part(UPDATE, Moment(late + scratch, 0, kept), gathering)]
    if replicas > 1 and not is_divided:
        pack = sum(step.packed_gradients) if shard == 0 else whole
        found.append(_part(REDUCE, Moment(late, 0, kept), pack))
    return found


def _backward(
    moment: Moment,
    kept: int,
    largest: int,
    is_divided: bool,
    microbatches: int,
    gathered: float,
) -> DeviceMemory:
    """Returns what is needed at a moment of the backward pass.

    Args:
        moment: What one replica alone would need.
        kept: Bytes of the gradients that this replica keeps.
        largest: Bytes of the largest gradient.
        is_divided: Whether gradients are reduced in packs as they come.
        microbatches: Positive.
        gathered: The fraction of the parameters that is whole here at a time; 0 for all of them.
    """
    made = moment.gradients
    in_flight = min(made, max(largest, _GRADIENT_PACK)) if is_divided else 0
    if microbatches > 1:  # beside the sums, a gradient is there until it is added
        gradients = kept + (in_flight or min(made, largest))
    else:
        gradients = min(made, kept) + in_flight
    copies = int(moment.weight_copies * gathered) if gathered else moment.weight_copies
    return _part(BACKWARD, Moment(moment.activations, copies, gradients), 2 * in_flight)


def _part(phase: str, moment: Moment, buffers: int = 0) -> DeviceMemory:
    return DeviceMemory(
        parameters=0,
        slots=0,
        other=0,
        batch=0,
        gradients=moment.gradients,
        activations=moment.activations + moment.weight_copies,
        buffers=buffers,
        padding=0,
        peak_at=phase,
    )


def most_consecutive(layers: Sequence[int]) -> int:
    """Returns the bytes of the two consecutive layers that have most.

    Example:
        >>> most_consecutive([5, 1, 4, 4])
        8
    """
    pairs = [sum(layers[i : i + _LAYERS_GATHERED]) for i in range(max(1, len(layers) - 1))]
    return max(pairs)
