"""What `tfscale verify` asks of its child processes, and what they find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line needs no numpy
    import numpy as np

    from tfscale.verify.batches import Batch


@dataclass(frozen=True)
class Request:
    """What is to be verified.

    Attributes:
        target: `"module:function"`.
        strategy: A name that `strategies.strategy_by_name` takes.
        num_replicas: Replicas of a mirrored strategy, or None for what the factory takes.
        steps: Steps of training. Positive.
        batch_size: Rows of a batch where the data are arrays. Positive.
        precision: "auto", "float64" or "as_is".
        seed: Not negative.
        timeout_seconds: Deadline of each order. Positive.
    """

    target: str
    strategy: str
    num_replicas: int | None
    steps: int
    batch_size: int
    precision: str
    seed: int
    timeout_seconds: float


@dataclass(frozen=True)
class Reference:
    """What one device did.

    Attributes:
        arrays: What it found, by name.
        control: The same with permuted rows.
        missing: What it could not be asked for, by group, and why.
        initial: The weights it started from.
        batches: What it trained on.
        precision: What the model computes in, the coarsest layer of it.
        is_float64: Whether Keras's default float was set to float64.
        notes: What the reader should know.
    """

    arrays: dict[str, np.ndarray]
    control: dict[str, np.ndarray]
    missing: dict[str, str]
    initial: list[np.ndarray]
    batches: list[Batch]
    precision: str
    is_float64: bool
    notes: list[str]


@dataclass(frozen=True)
class Candidate:
    """What the strategy did: arrays by name, or why it refused or failed; and what looked wrong."""

    arrays: dict[str, np.ndarray]
    suspects: list[str]
    end: tuple[str, str] | None = None
