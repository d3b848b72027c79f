"""Measures datasets in turns: in each round every one of them is read for a while.

Load of other programs then slows all of them alike, and differences and ratios are taken within a
round. A turn makes a new iterator, so that nothing is read ahead while others are measured. The
first round, which traces and starts, is not counted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfscale.data.diagnosis.stage import Stage

_MANY = 8
"""So many elements for a step are taken as one window, because a loop in a graph is slow."""
_MOST_STEPS = 2_000
_WARM = 0.25  # Part of a turn before it, in which AUTOTUNE chooses its threads.
_FEW_STEPS = 16
"""A turn of fewer steps is measured from the first on: after a step that was not, those that were
read in parallel with it would be counted as if they took no time."""
_FEWEST_STEPS = 4


@dataclass(frozen=True)
class Turn:
    """What a step took in one turn.

    Attributes:
        seconds: Wall time.
        processor_seconds: User and system time of this process and of those that read for it.
    """

    seconds: float
    processor_seconds: float


Take = Callable[[int], None]
"""Takes so many steps, at least one, and returns when they are done."""


def take_in_turns(
    stages: Sequence[Stage],
    processor_seconds: Callable[[], float],
    *,
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> Mapping[str, list[Turn]]:
    """Reads each stage in every round, in alternating order.

    Args:
        stages: With different names.
        processor_seconds: Returns the processor time that was used so far.
        rounds: Counted rounds. Positive.
        seconds: Wall time of a turn, if a few steps take less.
        say: Prints a line of progress.

    Returns:
        The turns of each stage, one a round.
    """
    steps = {stage.name: 0 for stage in stages}
    found: dict[str, list[Turn]] = {stage.name: [] for stage in stages}
    for round_ in range(rounds + 1):
        for stage in stages if round_ % 2 else stages[::-1]:
            take = _reading(stage, round_)
            if not round_:
                steps[stage.name] = steps_for(take, seconds)
                continue
            count = steps[stage.name]
            if count >= _FEW_STEPS:
                take(math.ceil(_WARM * count))
            before, began = processor_seconds(), time.perf_counter()
            take(count)
            spent = time.perf_counter() - began
            used = processor_seconds() - before
            found[stage.name].append(Turn(spent / count, used / count))
        say(f"input: round {round_} of {rounds}" if round_ else "input: every stage has run once")
    return found


def steps_for(take: Take, seconds: float) -> int:
    """Returns how many steps take about so long, found by taking more and more of them."""
    take(1)
    count = 1
    while True:
        began = time.perf_counter()
        take(count)
        spent = time.perf_counter() - began
        if spent >= seconds / 2 or count >= _MOST_STEPS:
            wanted = round(count * seconds / max(spent, 1e-6))
            return max(_FEWEST_STEPS, min(_MOST_STEPS, wanted))
        count = min(_MOST_STEPS, max(2 * count, round(count * seconds / 2 / max(spent, 1e-6))))


def _reading(stage: Stage, round_: int) -> Take:
    dataset, elements = stage.dataset(round_), stage.elements
    if elements >= _MANY:
        dataset, elements = dataset.window(elements), 1
    iterator = iter(dataset)

    def take(steps: int) -> None:
        _read(iterator, tf.constant(steps * elements, tf.int64)).numpy()

    return take


@tf.function(reduce_retracing=True)
def _read(iterator: tf.data.Iterator, count: tf.Tensor) -> tf.Tensor:
    for _ in tf.range(count):
        next(iterator)
    return count
