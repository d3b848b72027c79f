"""The chips that a step is examined for, and their number of replicas."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# Chip: the smallest topology on offer, and the cores of a chip that TensorFlow sees (v4 and v5p
# combine their two cores into one; a tpu7x shows both).
_CHIPS = {
    "v4": ("2x2x1", 1),
    "v5e": ("1x1", 1),
    "v5p": ("2x2x1", 1),
    "v6e": ("1x1", 1),
    "tpu7x": ("2x2x1", 2),
}
CHIPS = ("cpu", *_CHIPS)
_CURE = "Examples: cpu, v5e, v5e:2x2, v4:2x2x1, v5litepod-4."


@dataclass(frozen=True)
class Target:
    """A type of chip and its topology.

    Attributes:
        chip: One of `CHIPS`.
        topology: Chips along each side, such as "2x2"; "" for the CPU.
        num_replicas: Replicas of a strategy on all chips. Positive.
    """

    chip: str
    topology: str
    num_replicas: int

    @property
    def is_tpu(self) -> bool:
        """Whether the target is a TPU and not this host's CPU."""
        return self.chip != "cpu"

    def __str__(self) -> str:
        return f"{self.chip}:{self.topology}" if self.topology else self.chip


def parse_target(text: str) -> Target:
    """Parses a target.

    Args:
        text: `chip` or `chip:topology`; for v5e and v6e also Google Cloud's accelerator types,
            such as "v5litepod-4" or "v6e-8".

    Raises:
        ValueError: If the chip is unknown, or its topology has a wrong number of sides.

    Example:
        >>> parse_target("v5e:2x4").num_replicas
        8
    """
    cloud = re.fullmatch(r"(v5litepod|v6e)-(\d+)", text)
    if cloud:
        chip = "v5e" if cloud[1] == "v5litepod" else cloud[1]
        return _target(text, chip, _square(int(cloud[2])))
    chip, colon, topology = text.partition(":")
    if chip == "cpu" and not colon:
        return Target("cpu", "", 1)
    if chip not in _CHIPS:
        raise ValueError(f"must be one of {', '.join(CHIPS)}. Received: {text!r}. {_CURE}")
    return _target(text, chip, topology if colon else _CHIPS[chip][0])


def _target(text: str, chip: str, topology: str) -> Target:
    smallest, cores = _CHIPS[chip]
    num_sides = smallest.count("x") + 1
    is_topology = re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", topology)
    if not is_topology or topology.count("x") + 1 != num_sides:
        raise ValueError(
            f"must have {num_sides} sides for {chip}, such as {smallest}. Received: "
            f"{text!r}. {_CURE}"
        )
    num_chips = math.prod(int(side) for side in topology.split("x"))
    return Target(chip, topology, num_chips * cores)


def _square(num_chips: int) -> str:
    """Returns the most square topology, the shorter side first, as Google Cloud arranges chips."""
    shorter = next(
        (side for side in range(math.isqrt(num_chips), 0, -1) if num_chips % side == 0), 0
    )
    return f"{shorter}x{num_chips // shorter}" if shorter else ""
