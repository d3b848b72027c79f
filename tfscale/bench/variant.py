"""The variants that `tfscale bench` compares, and the settings of a race."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

PROGRAM = "tfscale.bench.child"


@dataclass(frozen=True)
class Variant:
    """A way to take training steps.

    Attributes:
        name: As in `--variants`.
        text: A short description.
        peer: Name of the variant that its time is divided by, or None.
        goal: Largest ratio to the peer that meets the goal, or None.
        num_workers: Processes of its cluster, started by `tfscale launch`; 0 for a single process.
        program: Module of the child process. It takes an address, a name and a race.
    """

    name: str
    text: str
    peer: str | None = None
    goal: float | None = None
    num_workers: int = 0
    program: str = PROGRAM


VARIANTS = (
    Variant("stock", "fit, no strategy"),
    Variant("one_device", "fit, one_device_strategy", peer="stock", goal=1.02),
    Variant("mirrored", "fit, mirrored_strategy(2)", peer="stock"),
    Variant("loop", "bare loop inside a graph: the limit", peer="stock"),
)


@dataclass(frozen=True)
class Race:
    """What every variant trains, and how long.

    Attributes:
        model: A name of `models.MODELS`, or "" where `target` is given.
        target: The user's `"module:function"`, or "".
        rounds: Turns of each variant; the first is not counted. At least 2.
        steps: Optimizer steps of a turn. A positive multiple of `steps_per_execution`.
        steps_per_execution: Steps Keras takes in one call, or None for the model's own setting.
        batch_size: Rows of a batch if a target's data are arrays. Positive.
        threads: Threads of a single process, divided among the workers of a cluster. Positive.
        timeout_seconds: Deadline of start-up and of each turn. Positive.
        patience_seconds: How long a child waits for its turn. Positive.
    """

    model: str
    target: str
    rounds: int
    steps: int
    steps_per_execution: int | None
    batch_size: int
    threads: int
    timeout_seconds: float
    patience_seconds: float

    def threads_of(self, num_workers: int) -> int:
        """Returns the threads of each of `num_workers` processes of a variant, at least 1."""
        return max(1, self.threads // max(1, num_workers))

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Race:
        """Returns the race that `to_json` wrote."""
        return Race(**json.loads(text))
