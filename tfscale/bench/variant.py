"""The variants that `tfscale bench` compares, and the settings of a race."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

PROGRAM = "tfscale.bench.child"
PROCESS_VARIABLE = "TFSCALE_BENCH_PROCESS"
"""Environment variable with the number of an independent process of a variant, from 0."""
TORCH_PROGRAM = "tfscale.bench.peers.torch_steps"


@dataclass(frozen=True)
class Variant:
    """A way to take training steps.

    Attributes:
        name: As in `--variants`.
        text: A short description.
        peer: Name of the variant that its time is divided by, or None.
        goal: Largest ratio to the peer that meets the goal, or None.
        num_workers: Processes of its cluster, started by `tfscale launch` or by the launcher of
            what it requires; 0 without a cluster.
        num_processes: Processes that train independently of each other, if there is no cluster.
        limit: Name of the variant that is the limit of this one, or None. See `outcome.Row`.
        program: Module of the child process. `child.py` says what its command line is.
        requires: A package, such as "torch" or "mpi4py", if its program runs in the peers'
            environment, "" otherwise.
        other_goals: Names of further peers, and the largest ratio to each that meets the goal.
    """

    name: str
    text: str
    peer: str | None = None
    goal: float | None = None
    num_workers: int = 0
    program: str = PROGRAM
    num_processes: int = 1
    limit: str | None = None
    requires: str = ""
    other_goals: Mapping[str, float] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """How many processes take a turn together."""
        return self.num_workers or self.num_processes


VARIANTS = (
    Variant("stock", "fit, no strategy", limit="loop"),
    Variant("one_device", "fit, one_device_strategy", peer="stock", goal=1.02, limit="loop"),
    Variant("mirrored", "fit, mirrored_strategy(2)", peer="stock", limit="loop"),
    Variant("loop", "bare loop inside a graph: the limit", peer="stock"),
    Variant("torch", "PyTorch, eager", peer="stock", program=TORCH_PROGRAM, requires="torch"),
    Variant("two_processes", "fit, two processes, no communication", num_processes=2),
    Variant(
        "torch_ddp",
        "PyTorch, DistributedDataParallel with gloo, 2 workers",
        num_workers=2,
        program=TORCH_PROGRAM,
        limit="two_processes",
        requires="torch",
    ),
    Variant(
        "workers",
        "fit, multi_worker_mirrored_strategy, 2 workers",
        peer="torch_ddp",
        goal=1.3,
        num_workers=2,
        limit="two_processes",
    ),
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
        threads: Threads of a single process, divided among several. Positive.
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

    def threads_of(self, processes: int) -> int:
        """Returns the threads of each of `processes` processes of a variant, at least 1."""
        return max(1, self.threads // max(1, processes))

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Race:
        """Returns the race that `to_json` wrote."""
        return Race(**json.loads(text))
