"""The chips that a step is examined for, and their number of replicas."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SMALL = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
"""Smaller than a cube of 4x4x4. Larger ones are made of such cubes, the shorter sides first."""
_CUBE = 4
# Chip: topologies that are on offer; the chips of a pod; and the cores of a chip that TensorFlow
# sees (v4 and v5p combine their two cores into one; a tpu7x shows both).
_CHIPS = {
    "v4": (_SMALL, 4096, 1),
    "v5e": (_FLAT, 256, 1),
    "v5p": (_SMALL, 6144, 1),
    "v6e": (_FLAT, 256, 1),
    "tpu7x": (_SMALL, 9216, 2),
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
        ValueError: If the chip is unknown, or Google Cloud does not offer its topology.

    Source: https://cloud.google.com/tpu/docs/v5e, and the pages of the other chips.

    Example:
        >>> parse_target("v5e:2x4").num_replicas
        8
    """
    cloud = re.fullmatch(r"(v5litepod|v6e)-(\d+)", text)
    if cloud:
        chip, num_chips = cloud[1].replace("v5litepod", "v5e"), int(cloud[2])
        named = {_num_chips(topology): topology for topology in _FLAT}
        return _target(text, chip, named.get(num_chips, ""))
    chip, colon, topology = text.partition(":")
    if chip == "cpu" and not colon:
        return Target("cpu", "", 1)
    if chip not in _CHIPS:
        raise ValueError(f"must be one of {', '.join(CHIPS)}. Received: {text!r}. {_CURE}")
    return _target(text, chip, topology if colon else _CHIPS[chip][0][0])


def _target(text: str, chip: str, topology: str) -> Target:
    offered, most, cores = _CHIPS[chip]
    if topology not in offered and not (offered is _SMALL and _is_of_cubes(topology, most)):
        cubes = f", or cubes of 4x4x4, such as 4x4x8, up to {most} chips"
        raise ValueError(
            f"must have a topology that is on offer for {chip}: {', '.join(offered)}"
            f"{cubes if offered is _SMALL else ''}. "
            f"Received: {text!r}. {_CURE}"
        )
    return Target(chip, topology, _num_chips(topology) * cores)


def _is_of_cubes(topology: str, most: int) -> bool:
    if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3}){2}", topology):
        return False
    sides = [int(side) for side in topology.split("x")]
    is_divided = all(side % _CUBE == 0 for side in sides)
    return is_divided and sides == sorted(sides) and math.prod(sides) <= most


def _num_chips(topology: str) -> int:
    return math.prod(int(side) for side in topology.split("x"))
