"""What the program of the faults trains; as JSON, a harness can pass it to a child process."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from tests.faults.injections import EXCEPTION

ROWS, VALIDATION_ROWS, BATCH = 60, 20, 8
STEPS = 8
"""Steps per epoch: seven of 8 rows and one of 4."""
EVERY = 3
"""Batches between checkpoints; it does not divide the steps of an epoch."""
VALIDATION_BATCHES = 3

ONE_DEVICE, MIRRORED, WORKERS = "one_device", "mirrored", "workers"
KINDS = {ONE_DEVICE: "1 device", MIRRORED: "2 replicas", WORKERS: "2 workers"}


@dataclass(frozen=True)
class Training:
    """One training, from its start or from its newest checkpoint.

    Attributes:
        kind: One of `KINDS`.
        folder: Contains `checkpoints` and the notes of the program; the same for all workers.
        precision: Name of a dtype policy.
        epochs: Epochs of 8 steps.
        every: Batches between checkpoints.
        dropout: Rate. Replicas draw different numbers, so it is 0 if topologies are compared.
        deterministic: Whether op determinism is on.
        pace_seconds: Pause after each step, which gives faults time to happen.
        step_seconds: What the graph of each step takes more, in training.
        is_monitored: Whether a Monitor writes into `monitor` of the folder.
        watchdog_seconds: Deadline of a Watchdog, or None for none.
        injected: What SIGUSR1 makes a worker do, one of `injections`.
        interruption: Text of an `Interruption` that the process does to itself, or "".
        disk: Folder of the checkpoints, or "" for one in `folder`.
        attempt: How often this training has been started before.
        workers: Processes of the kind `WORKERS`.
    """

    kind: str
    folder: str
    precision: str = "float32"
    epochs: int = 8
    every: int = EVERY
    dropout: float = 0.3
    deterministic: bool = True
    pace_seconds: float = 0.0
    step_seconds: float = 0.0
    is_monitored: bool = False
    watchdog_seconds: float | None = None
    injected: str = EXCEPTION
    interruption: str = ""
    disk: str = ""
    attempt: int = 0
    workers: int = 2

    @property
    def num_workers(self) -> int:
        """Processes that train together."""
        return self.workers if self.kind == WORKERS else 1

    @property
    def num_replicas(self) -> int:
        """Replicas of all processes."""
        return 2 if self.kind == MIRRORED else self.num_workers

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return Path(self.disk or self.folder) / "checkpoints"

    @property
    def monitor(self) -> Path:
        """The folder of Monitor."""
        return Path(self.folder) / "monitor"

    def note(self, what: str, worker: int) -> Path:
        """Returns the file in which a worker of this attempt notes something."""
        return Path(self.folder) / f"{what}.attempt-{self.attempt}.worker-{worker}"

    def to_json(self) -> str:
        """Returns the text that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Training:
        """Reads what `to_json` wrote."""
        return Training(**json.loads(text))
