"""What a configuration costs besides memory, and which one that fits costs least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfscale.plan.device_memory import DeviceMemory

FORMULA = (
    "order of costs: 1. bytes that a device sends a step, (R - 1) / R x (2 G + g P), where G and P "
    "are the bytes of gradients and parameters, and g is how often parameters are gathered: 0 with "
    "shard 0, 1 with 1 and 2, 2 a microbatch with 3, where 2 G is a microbatch, too; "
    "2. floating-point operations that are computed again; 3. microbatches; 4. shard; 5. memory"
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
    """

    shard: int
    precision: str
    microbatches: int
    recompute: str
    memory: DeviceMemory
    communicated_bytes: int
    recomputed_flops: int
    fits: bool

    @property
    def costs(self) -> tuple[int, int, int, int, int]:
        """The costs, the most important first."""
        return (
            self.communicated_bytes,
            self.recomputed_flops,
            self.microbatches,
            self.shard,
            self.memory.total,
        )


def communicated_bytes(
    parameters: int, gradients: int, *, replicas: int, shard: int, microbatches: int
) -> int:
    """Returns the bytes that each device sends in a step.

    A ring all-reduce of n bytes over R replicas sends 2 n (R - 1) / R, a gather n (R - 1) / R.
    TensorFlow has no reduce-scatter, so gradients that are divided are reduced whole.

    Args:
        parameters: Bytes of the trainable parameters.
        gradients: Bytes of the gradients, as they travel.
        replicas: Positive.
        shard: 0 to 3.
        microbatches: Positive.

    Example:
        >>> communicated_bytes(100, 100, replicas=2, shard=3, microbatches=1)
        200
    """
    reduced = gradients * (microbatches if shard == 3 else 1)
    gathers = (0, 1, 1, 2 * microbatches)[shard]
    return (2 * reduced + gathers * parameters) * (replicas - 1) // replicas


def cheapest(configurations: Sequence[Configuration]) -> Configuration | None:
    """Returns the configuration that fits and costs least, or None if none fits."""
    fitting = [each for each in configurations if each.fits]
    return min(fitting, key=lambda each: each.costs, default=None)
