"""What a configuration costs besides memory, and which one that fits costs least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tfscale.plan.memory.device_memory import DeviceMemory
from tfscale.plan.memory.model_parallel import Division

FORMULA = (
    "order of costs: 1. devices of a replica; 2. bytes that a device sends a step, to other "
    "replicas (R - 1) / R x (2 G + g P), where G and P are the bytes of its gradients and "
    "parameters, and g is how often parameters are gathered: 0 with shard 0, 1 with 1 and 2, 2 a "
    "microbatch with 3, where 2 G is a microbatch, too, but for pipelines; and to other devices of "
    "its replica activations and their gradients; 3. the part of a step that the devices of a "
    "pipeline wait, (S - 1) / (V M + S - 1) for S stages of V runs of layers and M microbatches; "
    "4. floating-point operations that are computed again; 5. microbatches; 6. shard; 7. memory"
)


@dataclass(frozen=True)
class Configuration:
    """A way to train a model, with its memory and costs.

    Attributes:
        shard: What is divided over the replicas: 0 nothing, 1 slots, 2 and gradients, 3 and
            parameters.
        precision: The dtype policy, or "as_is" for that of the model.
        microbatches: Parts of a replica batch.
        recompute: Which layers compute their activations again in the backward pass.
        memory: Of the device that needs most.
        communicated_bytes: Bytes that each device sends a step.
        recomputed_flops: Floating-point operations of a step that recomputing adds, a device.
        fits: Whether the memory is at most that of a device; True if no limit was given.
        division: How the devices of a replica divide the model.
        devices: The memory of each device of a replica.
        stages: Names of the layers at which stages begin, but for the first, or other runs of
            layers; for `tfscale.parallel.Pipeline(stages=)`.
    """

    shard: int
    precision: str
    microbatches: int
    recompute: str
    memory: DeviceMemory
    communicated_bytes: int
    recomputed_flops: int
    fits: bool
    division: Division = field(default_factory=Division)
    devices: tuple[DeviceMemory, ...] = ()
    stages: tuple[str, ...] = ()

    @property
    def bubble(self) -> float:
        """The part of a step that devices wait, by the schedule's formula, from 0 to 1."""
        return self.division.bubble(self.microbatches)

    @property
    def costs(self) -> tuple[float, ...]:
        """The costs, the most important first."""
        return (
            self.division.devices,
            self.communicated_bytes,
            self.bubble,
            self.recomputed_flops,
            self.microbatches,
            self.shard,
            self.memory.total,
        )


def communicated_bytes(
    parameters: int,
    gradients: int,
    *,
    replicas: int,
    shard: int,
    microbatches: int,
    is_pipeline: bool = False,
) -> int:
    """Returns the bytes that each device sends in a step to other replicas.

    A ring all-reduce of n bytes over R replicas sends 2 n (R - 1) / R, a gather n (R - 1) / R.
    TensorFlow has no reduce-scatter, so gradients that are divided are reduced whole.

    Args:
        parameters: Bytes of the trainable parameters.
        gradients: Bytes of the gradients, as they travel.
        replicas: Positive.
        shard: 0 to 3.
        microbatches: Positive.
        is_pipeline: Whether the gradients of all microbatches are reduced at once in any case.

    Example:
        >>> communicated_bytes(100, 100, replicas=2, shard=3, microbatches=1)
        200
    """
    reduced = gradients * (microbatches if shard == 3 and not is_pipeline else 1)
    gathers = (0, 1, 1, 2 * microbatches)[shard]
    return (2 * reduced + gathers * parameters) * (replicas - 1) // replicas


def cheapest(configurations: Sequence[Configuration]) -> Configuration | None:
    """Returns the configuration that fits and costs least, or None if none fits."""
    fitting = [each for each in configurations if each.fits]
    return min(fitting, key=lambda each: each.costs, default=None)
