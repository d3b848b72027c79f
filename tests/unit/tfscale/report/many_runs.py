"""Folders of runs that differ in two flags, some with files of Monitor."""

from __future__ import annotations

import math
import random
from pathlib import Path

from tests.unit.tfscale.report.made_up_monitor import restarted
from tfscale.report.json import write_run
from tfscale.report.record import RunRecord, Timing


def sweep_run(number: int, *, epochs: int = 30) -> RunRecord:
    """Run `number` of a sweep: of the rates from 1e-4 to 1 the one in the middle is the best."""
    draw = random.Random(number)
    rate = 10 ** (-4 + 4 * (number % 10) / 9)
    away = abs(math.log10(rate) + 2)
    loss = [2.0 * math.exp(-epoch / (3 + 3 * away)) + 0.05 * away for epoch in range(epochs)]
    validation = [value * (1.1 + 0.1 * draw.random()) for value in loss]
    return RunRecord(
        title="sweep",
        results={"test_accuracy": 1 - loss[-1] / 2.5} if loss else {},
        history={
            "loss": loss,
            "val_loss": validation,
            "accuracy": [1 - value / 2.5 for value in loss],
        },
        timing=Timing(
            total_seconds=60.0 + number, seconds_per_step=0.05, num_steps=600, global_batch_size=96
        ),
        configuration={
            "dataset": "digits",
            "learning_rate": float(f"{rate:.2g}"),
            "dropout": 0.1 * (number // 10),
            "seed": 0,
        },
        environment={"strategy": "MirroredStrategy", "replicas": 2, "tensorflow": "2.21.0"},
    )


def write_runs(folder: Path, count: int, *, monitored: int = 2) -> None:
    """Writes `count` folders of runs; the first ones have files of Monitor."""
    for number in range(count):
        run = folder / f"run-{number:02}"
        run.mkdir(parents=True)
        write_run(sweep_run(number), run / "run.json")
        if number < monitored:
            restarted(run / "monitor", lines=40 + 20 * number)
