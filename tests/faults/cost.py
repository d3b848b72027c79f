"""What op determinism costs: the same training with and without it, in turn."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from tests.faults.lines import END_LINE
from tests.faults.resume import train
from tests.faults.training import KINDS, Training

ROUNDS = 5
EPOCHS = 40
NAME = "cost of determinism"
"""For `--only`."""


def line(kind: str, folder: Path) -> str:
    """Runs the trainings of one topology, and returns its line of the table.

    Args:
        kind: One of `KINDS`.
        folder: Empty.

    Raises:
        OSError: If a training fails.
    """
    trainings = [
        Training(
            kind, str(folder / str(turn)), epochs=EPOCHS, every=1000, deterministic=turn % 2 == 0
        )
        for turn in range(2 * ROUNDS)
    ]
    train(trainings, folder)
    milliseconds = [_step(training) for training in trainings]
    pairs = list(zip(milliseconds[::2], milliseconds[1::2], strict=True))
    on, off = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return f"| {KINDS[kind]} | {off:.2f} ms | {on:.2f} ms | {ratio:.2f}x |"


def _step(training: Training) -> float:
    log = training.note("log", 0).read_text("utf-8")
    found = re.search(END_LINE + r".* s, ([\d.]+) ms a step", log)
    if found is None:
        raise OSError(f"A training must print its time. Received: {log[-200:]!r}.")
    return float(found[1])
