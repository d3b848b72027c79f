"""Draws configurations for a sweep: ordinary ones, several options at a time."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from tests.parity.configuration import CHOICES, Configuration
from tests.parity.exclusions import CLASSIFYING, why_excluded

SIZES = (
    (48, 12),  # even for 1, 2, 3 and 4 replicas
    (61, 12),  # the last batch is a single row
    (66, 12),
    (50, 16),  # the last batch has two rows
    (41, 8),
    (21, 7),  # every batch uneven
    (22, 7),
    (13, 5),
    (3, 3),
    (7, 1),  # fewer rows than replicas, always
)
_USUAL = 0.6
"""How often a field keeps its default, so that a failure has few suspects."""
_STRATEGIES_EACH = 2
"""Strategies that train each draw: its run on one device serves them all."""
_ALWAYS_DRAWN = ("model", "optimizer", "loss")
_PRECISIONS = ("float64",) * 6 + ("float32",) * 2 + ("mixed_float16", "mixed_bfloat16")
_NEVER_DRAWN = ("overflow", "precision", "strategy")


def draw(seed: int, count: int, strategies: Sequence[str]) -> list[Configuration]:
    """Returns `count` different configurations that no exclusion applies to.

    Args:
        seed: Seed of the sweep.
        count: Not negative.
        strategies: Names of strategies to spread them over.
    """
    source = random.Random(seed)
    drawn: dict[Configuration, None] = {}
    while len(drawn) < count:
        drawn_once = _candidate(source)
        for _ in range(min(_STRATEGIES_EACH, count - len(drawn))):
            strategy = strategies[len(drawn) % len(strategies)]
            candidate = dataclasses.replace(drawn_once, strategy=strategy)
            if why_excluded(candidate) is None:
                drawn[candidate] = None
    return list(drawn)


def _candidate(source: random.Random) -> Configuration:
    values = {
        name: source.choice(choices)
        for name, choices in CHOICES.items()
        if name not in _NEVER_DRAWN and (name in _ALWAYS_DRAWN or source.random() > _USUAL)
    }
    rows, batch = source.choice(SIZES)
    # Some losses fit few models; without a word, weights of classes would hardly ever be drawn.
    if values.get("weights") == "class":
        values["loss"] = source.choice(CLASSIFYING)
    if values["model"] in ("two_outputs", "raw_step"):
        values["loss"] = "mse"
    values["precision"] = source.choice(_PRECISIONS)
    return Configuration(rows=rows, batch=batch, seed=source.randrange(1000), **values)
