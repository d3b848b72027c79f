"""Runs a race: warms up all variants, then lets them take turns (A B C A B C) under equal load."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfscale.bench.contestant import Contestant
from tfscale.bench.variant import Race, Variant


@dataclass(frozen=True)
class Result:
    """The result of a race.

    Attributes:
        race: What was trained, and how long.
        variants: The variants, in order.
        step_seconds: By variant, seconds per step in each round but the first.
        first_loss: By variant, the loss of the warm-up. Variants that train equally agree up to
            rounding. The loop reports the loss of its last step, `fit` the mean over all steps.
        peak_bytes: By variant, the largest resident memory of one of its processes.
        load_before: Load average over a minute, before the first process was started.
        load_after: The same after the last turn.
        cpus: Logical CPUs of the host.
    """

    race: Race
    variants: tuple[Variant, ...]
    step_seconds: dict[str, tuple[float, ...]]
    first_loss: dict[str, float]
    peak_bytes: dict[str, int]
    load_before: float
    load_after: float
    cpus: int


def run_race(
    race: Race, variants: Sequence[Variant], folder: Path, say: Callable[[str], None]
) -> Result:
    """Runs a race.

    Args:
        race: What is trained, and how long.
        variants: At least one, with different names.
        folder: An empty folder for sockets and logs, with a short path. Readable by this user only.
        say: Called with each line of progress.

    Raises:
        Failed: If a variant cannot be timed. The others are ended too.
    """
    load_before = os.getloadavg()[0]
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    contestants: dict[str, Contestant] = {}
    try:
        for variant in variants:
            contestants[variant.name] = Contestant(variant, race, folder)
        for name, contestant in contestants.items():
            contestant.wait_until_ready()
            say(f"{name}: ready")
        for number in range(race.rounds):
            for name, contestant in contestants.items():
                seconds[name].append(contestant.take_turn() / race.steps)
            times = ", ".join(f"{name} {1e3 * taken[-1]:.3g}" for name, taken in seconds.items())
            say(f"round {number + 1} of {race.rounds}, ms a step: {times}")
        load_after = os.getloadavg()[0]
    finally:
        for contestant in contestants.values():
            contestant.end()
    return Result(
        race=race,
        variants=tuple(variants),
        # Caches, frequencies and allocators settle in the first round.
        step_seconds={name: tuple(taken[1:]) for name, taken in seconds.items()},
        first_loss={name: contestant.first_loss for name, contestant in contestants.items()},
        peak_bytes={name: contestant.peak_bytes for name, contestant in contestants.items()},
        load_before=load_before,
        load_after=load_after,
        cpus=os.cpu_count() or 1,
    )
