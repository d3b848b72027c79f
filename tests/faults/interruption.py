"""When a training is killed: moments that cannot be hit reliably from outside."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.faults.training import EVERY, STEPS, VALIDATION_BATCHES

STEP, VALIDATION = "step", "validation"
SAVE_BEGINS, SAVE_HALF, SAVE_ENDS = "tensors", "manifest", "rename"
SAVES = (SAVE_BEGINS, SAVE_HALF, SAVE_ENDS)
"""The folder exists and is empty; all tensors are written; all files are, with temporary names."""


@dataclass(frozen=True)
class Interruption:
    """When a training is killed.

    Attributes:
        moment: STEP, VALIDATION or one of SAVES.
        batch: The global batch, counted from 1: the one that is trained, the last one before the
            validation, or the newest one in the checkpoint.
        part: Milliseconds from the beginning of a step to SIGKILL, or the batch of a validation.
    """

    moment: str
    batch: int
    part: float = 0.0

    def __str__(self) -> str:
        return f"{self.moment}:{self.batch}:{self.part:.3f}"

    @staticmethod
    def from_text(text: str) -> Interruption:
        """Reads what `str` wrote."""
        moment, batch, part = text.split(":")
        return Interruption(moment, int(batch), float(part))


def drawn(seed: int, steps: int, validations: int, epochs: int) -> list[Interruption]:
    """Draws the interruptions of one chain, in the order of the training.

    Args:
        seed: Of the draw.
        steps: Interruptions at random moments of random steps.
        validations: In the middle of the validation of random epochs. At most `epochs` - 1.
        epochs: Epochs of the training.
    """
    draw, last = random.Random(seed), epochs * STEPS
    found = [
        Interruption(STEP, batch, draw.uniform(0.0, 3.0))
        for batch in draw.sample(range(1, last - STEPS // 2), steps)
    ]
    found += [
        Interruption(VALIDATION, epoch * STEPS, draw.randrange(VALIDATION_BATCHES))
        for epoch in draw.sample(range(1, epochs), validations)
    ]
    saves = draw.sample(range(EVERY, last - EVERY, EVERY), len(SAVES))
    found += [Interruption(moment, batch) for moment, batch in zip(SAVES, saves, strict=True)]
    return sorted(found, key=lambda interruption: interruption.batch)
