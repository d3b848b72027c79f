"""Runs a race: warms up all variants, then lets them take turns (A B C A B C) under equal load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfscale.bench.contestant import Contestant, Missing, Settings, Turn
from tfscale.bench.outcome import Row
from tfscale.bench.variant import Variant


class Rounds(Settings, Protocol):
    """What a race needs to know, such as a `Race`."""

    @property
    def rounds(self) -> int:
        """Turns of each variant; the first is not counted. At least 2."""

    @property
    def steps(self) -> int:
        """Steps of a turn. Positive."""


@dataclass(frozen=True)
class Result:
    """The result of a race.

    Attributes:
        race: What was trained, and how long.
        variants: The variants, in order.
        turns: By variant, the turns of each round but the first; none of a missing variant.
        first_loss: By variant, the loss of the warm-up. Variants that train equally agree up to
            rounding. The loop reports the loss of its last step, `fit` the mean over all steps.
        peak_bytes: By variant, the largest resident memory of one of its processes.
        missing: By variant that was not raced, why.
    """

    race: Rounds
    variants: tuple[Variant, ...]
    turns: dict[str, tuple[Turn, ...]]
    first_loss: dict[str, float]
    peak_bytes: dict[str, int]
    missing: dict[str, str] = field(default_factory=dict)


def run_race(
    race: Rounds, variants: Sequence[Variant], folder: Path, say: Callable[[str], None]
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
    turns: dict[str, list[Turn]] = {}
    contestants: dict[str, Contestant] = {}
    missing: dict[str, str] = {}
    try:
        for variant in variants:
            contestants[variant.name] = Contestant(variant, race, folder)
        for name, contestant in tuple(contestants.items()):
            try:
                contestant.wait_until_ready()
            except Missing as error:
                missing[name] = str(error)
                say(f"{name}: skipped: {error}")
                contestants.pop(name).end()
            else:
                say(f"{name}: ready")
        turns = {name: [] for name in contestants}
        for number in range(race.rounds):
            for name, contestant in contestants.items():
                turns[name].append(contestant.take_turn())
            times = ", ".join(
                f"{name} {1e3 * taken[-1].seconds / race.steps:.3g}"
                for name, taken in turns.items()
            )
            say(f"round {number + 1} of {race.rounds}, ms a step: {times}")
    finally:
        for contestant in contestants.values():
            contestant.end()
    return Result(
        race=race,
        variants=tuple(variants),
        # Caches, frequencies and allocators settle in the first round.
        turns={name: tuple(taken[1:]) for name, taken in turns.items()},
        first_loss={name: contestant.first_loss for name, contestant in contestants.items()},
        peak_bytes={name: contestant.peak_bytes for name, contestant in contestants.items()},
        missing=missing,
    )


def rows_of(
    result: Result, *, unit: str = "ms a step", scale: float | None = None
) -> tuple[Row, ...]:
    """Returns the rows of a race, one a variant.

    Args:
        result: The result of the race.
        unit: The unit of the times.
        scale: What the seconds of a turn are multiplied by. None means milliseconds a step.
    """
    if scale is None:
        scale = 1e3 / result.race.steps
    return tuple(_row(result, variant, unit, scale) for variant in result.variants)


def _row(result: Result, variant: Variant, unit: str, scale: float) -> Row:
    name, turns = variant.name, result.turns.get(variant.name, ())
    threads = result.race.threads_of(variant.processes)
    facts: dict[str, float | str] = {
        "threads": f"{variant.processes} x {threads}" if variant.processes > 1 else str(threads)
    }
    if turns:
        facts["peak RSS MiB"] = round(result.peak_bytes[name] / 2**20)
        facts["first loss"] = result.first_loss[name]
    return Row(
        name=name,
        text=variant.text,
        unit=unit,
        rounds=tuple(scale * turn.seconds for turn in turns),
        processor=tuple(scale * turn.processor_seconds for turn in turns),
        peer=variant.peer,
        goal=variant.goal,
        limit=variant.limit,
        facts=facts,
        skipped=result.missing.get(name, ""),
        other_goals=variant.other_goals,
    )
