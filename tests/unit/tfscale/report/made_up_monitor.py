"""Files as `tfscale.callbacks.Monitor` writes them, of a job whose truth is known."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfscale.monitor.phases import PHASES

NOON = 1_764_504_000.0


@dataclass
class Job:
    """Writes the file of a worker, line by line, on a clock of its own.

    Attributes:
        folder: Where `monitor-0.jsonl` and so on are.
        worker: Its index.
        workers: How many there are.
    """

    folder: Path
    worker: int = 0
    workers: int = 1
    clock: float = 1000.0
    position: int = 0
    process: int = 100
    began: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / f"monitor-{self.worker}.jsonl").open("a", encoding="utf-8")

    def start(
        self, *, after: float = 3.0, position: int = 0, stopped: float = 0.0, **values: Any
    ) -> None:
        """Begins a process `stopped` seconds from now, whose `fit` begins `after` seconds later."""
        self.process += 1
        self.clock += stopped
        self.began = self.clock
        self.clock += after
        self.position = position
        self._write(
            "begin",
            **{
                "version": 1, "worker": self.worker, "workers": self.workers,
                "replicas": self.workers, "job": "", "process": self.process, "boot": "one",
                "process_began": self.began, "restore_seconds": 0.0, "position": position,
                "peak_flops": None, "peak_is_measured": False, **values,
            },
        )  # fmt: skip

    def steps(self, count: int = 1, **values: Any) -> None:
        """Writes a line; seconds of phases by their names, all else as it is."""
        phases = {phase: float(values.pop(phase, 0.0)) for phase in PHASES}
        seconds = sum(phases.values())
        self.clock += seconds
        self.position += count
        self._write(
            "steps",
            **{
                "steps": count, "seconds": seconds, "examples": 32 * count,
                "examples_per_second": 32 * count / seconds, "phases": phases, "epoch": 0,
                "position": self.position, "learning_rate": 0.001, "host_memory": 2**30,
                "device_memory": {}, "monitor_seconds": 0.0, **values,
            },
        )  # fmt: skip

    def kill(self, count: int, *, seconds: float, in_step: float) -> None:
        """Leaves a heartbeat: of `count` steps since the newest line, and of the one after them."""
        self.clock += seconds + in_step
        self.position += count
        self._write(
            "heartbeat",
            process=self.process, steps=count, position=self.position,
            phases=dict.fromkeys(PHASES, 0.0) | {"compute": seconds},
            step_phases=dict.fromkeys(PHASES, 0.0) | {"compute": in_step},
        )  # fmt: skip

    def end(self) -> None:
        """Ends the `fit`."""
        self._write("end", position=self.position)

    def close(self) -> None:
        """Ends writing."""
        self._file.close()

    def _write(self, event: str, **values: Any) -> None:
        line = {"event": event, "time": NOON + self.clock, "clock": self.clock, **values}
        self._file.write(json.dumps(line) + "\n")


def restarted(folder: Path, *, lines: int = 120, workers: int = 3) -> None:
    """A job whose last worker computes twice as long from its middle on, and that restarts once.

    A line is 10 steps of 0.1 s. Worker i of the others waits for the last one. After two thirds of
    the lines all are killed; 20 s later they go on, 30 steps before.
    """
    draw = random.Random(0)
    for worker in range(workers):
        job = Job(folder, worker, workers)
        job.start()
        job.steps(10, compile=4.0, input_wait=0.1)
        for line in range(1, lines):
            if line == 2 * lines // 3:
                job.start(stopped=20.0, position=job.position - 30)
                job.steps(10, compile=3.0)
            is_slow = worker == workers - 1
            late = 1.0 if line >= lines // 2 else 0.0
            noise = 0.02 * draw.random()
            job.steps(
                10,
                compute=1.0 + noise + late * is_slow,
                input_wait=0.05,
                communication=0.1 + 0.02 - noise + late * (not is_slow),
                callbacks=0.02,
                checkpoint=0.5 if line % 20 == 0 else 0.0,
                utilization=0.4 / (1 + late),
                host_memory=2**30 + line * 2**20,
                device_memory={"GPU:0": {"current": 2**31, "peak": 2**32}},
                energy={"processors": {"joules": 60.0, "source": "rapl"}},
                network={"sent": 10**6, "received": 2 * 10**6},
            )
        job.end()
        job.close()


def write_values(folder: Path, name: str, values: Sequence[float | None]) -> None:
    """A job of a line a step, with one more number in each line."""
    job = Job(folder)
    job.start()
    for value in values:
        job.steps(1, compute=0.01, **{name: value})
    job.end()
    job.close()


def lines_of(path: Path) -> list[Mapping[str, Any]]:
    """Returns the lines of a file."""
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]
