"""What was measured of an input and a model, round by round, for the diagnosis."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tfscale.data.diagnosis.stage import Stage
from tfscale.data.diagnosis.turns import Turn

Rounds = tuple[float, ...]
"""Seconds a step in each counted round, in order."""


@dataclass(frozen=True)
class Cost:
    """What one stage adds to a step.

    Attributes:
        stage: The stage.
        seconds: Wall time that it adds: the time up to and including it, less that of the stage
            before, of the same round. About 0, or slightly negative, if it adds nothing.
        processor: Processor time that it adds.
        least: The shortest time up to and including it, less the shortest of the stage before:
            what it adds on a machine that does nothing else, as nearly as the rounds show.
    """

    stage: Stage
    seconds: Rounds
    processor: Rounds
    least: float

    @property
    def median(self) -> float:
        """The median of the rounds, in seconds a step."""
        return statistics.median(self.seconds)

    @property
    def waits(self) -> bool:
        """Whether processors are mostly idle in the time that it adds."""
        return statistics.median(self.processor) < 0.3 * min(self.median, self.least)


@dataclass(frozen=True)
class Figures:
    """All that the diagnosis rests on. Times are seconds a step; all have the same rounds.

    Attributes:
        costs: Of each stage, in order.
        total: The whole input.
        memory: A batch that is in memory already, read in the same way.
        batch_size: Examples of a global batch. Positive.
        batch_bytes: Of a global batch. Positive.
        larger: The whole input with batches `larger_by` times as large; empty if not measured.
        model: Training with a batch in memory; empty without a model.
        training: Training with the input; empty without a model.
        model_larger: Training with a batch in memory, `larger_by` times as large.
        transfer: Copying a batch to the devices of the replicas; empty if these are CPUs.
        larger_by: How many times as large those batches are.
    """

    costs: Sequence[Cost]
    total: Rounds
    memory: Rounds
    batch_size: int
    batch_bytes: int
    larger: Rounds = ()
    model: Rounds = ()
    training: Rounds = ()
    model_larger: Rounds = ()
    transfer: Rounds = ()
    larger_by: int = 8


def costs_of(stages: Sequence[Stage], turns: dict[str, list[Turn]]) -> list[Cost]:
    """Returns what each stage adds, from the turns of the input up to each.

    Args:
        stages: In order.
        turns: Of each stage, by name.

    Example:
        >>> from tfscale.data.diagnosis.stage import Stage
        >>> stages = [Stage(name, name, "", None, 1) for name in ("read", "decode")]
        >>> turns = {"read": [Turn(2.0, 1.0)], "decode": [Turn(5.0, 3.0)]}
        >>> [cost.seconds for cost in costs_of(stages, turns)]
        [(2.0,), (3.0,)]
    """
    found = []
    before = [Turn(0.0, 0.0)] * len(turns[stages[0].name])
    for stage in stages:
        now = turns[stage.name]
        pairs = list(zip(now, before, strict=True))
        found.append(
            Cost(
                stage,
                tuple(new.seconds - old.seconds for new, old in pairs),
                tuple(new.processor_seconds - old.processor_seconds for new, old in pairs),
                min(turn.seconds for turn in now) - min(turn.seconds for turn in before),
            )
        )
        before = now
    return found
