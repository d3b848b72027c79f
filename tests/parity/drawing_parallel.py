"""Draws configurations of pipelines and tensor parallelism."""

from __future__ import annotations

import dataclasses
import itertools
import random

from tests.parity.configuration import CHOICES, DIVIDED, PIPELINES, Configuration
from tests.parity.drawing import candidate_of
from tests.parity.exclusions import why_excluded
from tests.parity.parallel import RULES, RUNS

_TIMES_LONGER = 3
"""How often each of the models with many layers is in turn: only they have four stages of two."""
_LONG = 6


def draw_parallel(seed: int, count: int) -> list[Configuration]:
    """Returns `count` different configurations in float64 that no exclusion applies to.

    Args:
        seed: Seed of the sweep.
        count: Not negative.
    """
    source = random.Random(seed)
    strategies = itertools.cycle((*PIPELINES, *DIVIDED))
    turns = {}
    for strategy in (*PIPELINES, *DIVIDED):
        models = list(RULES if strategy in DIVIDED else RUNS)
        models = [m for m in models for _ in range(_TIMES_LONGER if RUNS[m] >= _LONG else 1)]
        source.shuffle(models)
        turns[strategy] = itertools.cycle(models)
    drawn: dict[Configuration, None] = {}
    while len(drawn) < count:
        strategy = next(strategies)
        model = next(m for m in turns[strategy] if _is_possible(m, strategy))
        drawn[_drawn(source, model, strategy)] = None
    return list(drawn)


def _is_possible(model: str, strategy: str) -> bool:
    return why_excluded(Configuration(model=model, strategy=strategy)) is None


def _drawn(source: random.Random, model: str, strategy: str) -> Configuration:
    """Returns a configuration of a model that a strategy may train."""
    is_pipeline = strategy in PIPELINES
    while True:
        schedule = source.choice(CHOICES["pipeline_schedule"] if is_pipeline else ("gpipe",))
        candidate = dataclasses.replace(
            candidate_of(source, model),
            strategy=strategy,
            precision="float64",
            overflow=False,
            microbatches=source.choice(CHOICES["microbatches"]),
            pipeline_schedule=schedule,
            virtual_stages=2 if schedule == "interleaved" else 1,
        )
        if why_excluded(candidate) is None:
            return candidate
