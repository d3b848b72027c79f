"""Draws configurations for a sweep: ordinary ones, several options at a time."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import Any

from tests.parity.configuration import CHOICES, Configuration
from tests.parity.exclusions import CLASSIFYING, why_excluded
from tests.parity.kinds import DATASETS, NEW, ORDINARY, kind_of

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
"""How often a field keeps its default, so that a failure has few possible causes."""
_STRATEGIES_EACH = 2
"""Strategies that train each draw; one run on one device is the reference of all."""
_ALWAYS_DRAWN = ("optimizer", "loss")
_PRECISIONS = ("float64",) * 6 + ("float32",) * 2 + ("mixed_float16", "mixed_bfloat16")
_NEVER_DRAWN = (
    "overflow",
    "precision",
    "strategy",
    "model",
    "pipeline_schedule",
    "virtual_stages",
)
_OF_REPLICAS = {"microbatches": (1, 2, 4)}
"""What is drawn of the fields that pipelines draw otherwise."""


KINDS: dict[str, tuple[str, ...]] = {
    "all": (*ORDINARY, *NEW),
    "ordinary": tuple(ORDINARY),
    "new": tuple(NEW),
}
"""Models to draw from, by value of the flag."""


def draw(
    seed: int, count: int, strategies: Sequence[str], kinds: str = "all"
) -> list[Configuration]:
    """Returns `count` different configurations that no exclusion applies to.

    Args:
        seed: Seed of the sweep.
        count: Not negative.
        strategies: Names of strategies to spread them over.
        kinds: Which models: a name of `KINDS`, or names of models separated by commas.

    Raises:
        ValueError: If there is no such model.
    """
    source = random.Random(seed)
    models = list(KINDS.get(kinds) or kinds.split(","))
    if not set(models) <= set(KINDS["all"]):
        raise ValueError(
            "`kinds` must be a group, or names of models separated by commas. Received: "
            f"kinds={kinds!r}. "
            f"Choose from {', '.join([*KINDS, *KINDS['all']])}."
        )
    source.shuffle(models)  # then in turn: some models allow few other fields
    turns = itertools.cycle(models)
    drawn: dict[Configuration, None] = {}
    while len(drawn) < count:
        drawn_once = _possible(source, next(turns))
        for _ in range(min(_STRATEGIES_EACH, count - len(drawn))):
            strategy = strategies[len(drawn) % len(strategies)]
            candidate = dataclasses.replace(drawn_once, strategy=strategy)
            if why_excluded(candidate) is None:
                drawn[candidate] = None
    return list(drawn)


def _possible(source: random.Random, model: str) -> Configuration:
    """Returns a configuration of `model` that at least one strategy may train."""
    while True:
        candidate = candidate_of(source, model)
        if why_excluded(dataclasses.replace(candidate, strategy="mirrored1")) is None:
            return candidate


def candidate_of(source: random.Random, model: str) -> Configuration:
    """Returns a configuration of `model` on replicas of one device, perhaps an excluded one."""
    values: dict[str, Any] = {
        name: source.choice(_OF_REPLICAS.get(name, choices))
        for name, choices in CHOICES.items()
        if name not in _NEVER_DRAWN and (name in _ALWAYS_DRAWN or source.random() > _USUAL)
    }
    values["model"] = model
    kind = kind_of(model)
    rows, batch = source.choice(SIZES)
    # Some losses fit few models; class weights would otherwise hardly be drawn.
    if values.get("weights") == "class":
        values["loss"] = source.choice(CLASSIFYING)
    if model == "two_outputs" or not kind.has_compiled_loss:
        values["loss"] = "mse"
    if not kind.takes_arrays:
        values["data"] = source.choice(DATASETS)
    values["precision"] = source.choice(_PRECISIONS)
    if model in NEW:
        values["precision"] = "float64"
    return Configuration(rows=rows, batch=batch, seed=source.randrange(1000), **values)
