"""A training step as a program for the chip's compiler, and what is needed to read its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PARAMETERS, OPTIMIZER_STATE, METRICS, BATCH = "parameters", "optimizer", "metrics", "batch"
OPTIMIZER, ELSEWHERE = "(optimizer)", "(outside of the layers)"

# What TensorFlow puts in front of a scope: in a gradient, and in a function that was called.
_PREFIXES = re.compile(r"((gradient_tape|gradients|(Stateful)?PartitionedCall)/)+")


@dataclass(frozen=True)
class Argument:
    """An array that the program is given, and keeps in memory as long as it runs.

    Attributes:
        kind: `PARAMETERS` (all weights and seeds), `OPTIMIZER_STATE`, `METRICS` or `BATCH`.
        layer: The path of the layer a parameter belongs to; "" for others.
    """

    kind: str
    layer: str = ""


@dataclass(frozen=True)
class Program:
    """The step of one replica, the all-reduces of all replicas in it.

    Attributes:
        hlo: An `HloModuleProto`, serialized.
        fingerprint: Equal for equal steps, which `hlo` is not: TensorFlow writes its parts in any
            order.
        num_replicas: Replicas that meet in its all-reduces. Positive.
        rows: Examples of one replica. Positive.
        arguments: In the program's order.
        scopes: From the scope of operations to the path of the layer that made them.
        optimizer: The scope of the optimizer's operations.
        largest: The operations that make the largest arrays, as traced, and bytes of each.
    """

    hlo: bytes = field(repr=False)
    fingerprint: str
    num_replicas: int
    rows: int
    arguments: tuple[Argument, ...]
    scopes: dict[str, str] = field(repr=False)
    optimizer: str = ""
    largest: tuple[tuple[str, int], ...] = ()

    def layer_of(self, operation: str) -> str:
        """Returns the path of the layer an operation belongs to, `OPTIMIZER` or `ELSEWHERE`.

        Args:
            operation: Its name in the graph, such as "gradient_tape/net_1/conv2d_1/Conv2D".
        """
        parts = _PREFIXES.sub("", operation, count=1).split("/")
        for end in range(len(parts), 0, -1):
            layer = self.scopes.get("/".join(parts[:end]))
            if layer is not None:
                return layer
        return OPTIMIZER if parts[0] == self.optimizer else ELSEWHERE
