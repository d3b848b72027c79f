"""What the replicas owe each other of a step's state, until they meet next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf


@dataclass
class Owed:
    """Variables whose copies differ, by how they become one.

    Attributes:
        means: Variable and value before: the example-weighted mean of what it moved by.
        sums: Variable, the part that counts once (None for none), and the replica's own part.
        extremes: Variable, "max" or "min", and the value before.
    """

    means: list[tuple[Any, tf.Tensor]] = field(default_factory=list)
    sums: list[tuple[Any, Any, tf.Tensor]] = field(default_factory=list)
    extremes: list[tuple[Any, str, tf.Tensor]] = field(default_factory=list)
