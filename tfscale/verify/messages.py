"""What `tfscale verify` sends to its child processes, and what they return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line needs no NumPy
    import numpy as np

    from tfscale.verify.batches import Batch
    from tfscale.verify.parallel_model import Parallel


@dataclass(frozen=True)
class Request:
    """What is to be verified.

    Attributes:
        target: `"module:function"`.
        strategy: A name that `strategies.strategy_by_name` takes.
        num_replicas: Replicas of a mirrored strategy, or None for the factory's default.
        shard: What the replicas keep parts of: 0 to 3.
        steps: Steps of training. Positive.
        batch_size: Rows of a batch if the data are arrays. Positive.
        precision: "auto", "float64" or "as_is".
        seed: Not negative.
        timeout_seconds: Deadline of each call. Positive.
        parallel: How the devices of a replica share the model, or None for one device each.
    """

    target: str
    strategy: str
    num_replicas: int | None
    shard: int
    steps: int
    batch_size: int
    precision: str
    seed: int
    timeout_seconds: float
    parallel: Parallel | None = None

    @property
    def microbatches(self) -> int:
        """Parts in which a replica computes its batch."""
        return 1 if self.parallel is None else self.parallel.microbatches


@dataclass(frozen=True)
class Reference:
    """The results of one device.

    Attributes:
        arrays: The results, by name.
        control: The results with permuted rows.
        missing: Groups of results that one device could not produce, and why.
        initial: The initial weights.
        batches: The batches of the training.
        precision: The coarsest precision that a layer computes in.
        is_float64: Whether Keras's default float type was set to float64.
        notes: Remarks for the report.
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
    """The results of the strategy.

    Attributes:
        arrays: The results, by name.
        causes: Known causes of differences that the model contains.
        end: Kind and text of the error that ended the training, or None.
    """

    arrays: dict[str, np.ndarray]
    causes: list[str]
    end: tuple[str, str] | None = None
