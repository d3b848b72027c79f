"""The variants of the cost benchmark: those of `tfscale bench`, and the stock peers."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfscale.bench import startup
from tfscale.bench.variant import VARIANTS, Variant

PROGRAM = "tests.benchmarks.child"

STOCK_MIRRORED = Variant(
    "stock_mirrored",
    "fit, stock Mirrored, 2 logical CPUs",
    peer="stock",
    program=PROGRAM,
    limit="loop",
)
PATCHED_WORKERS = Variant(
    "patched_workers",
    "fit, stock with W1 and W2, 2 workers",
    num_workers=2,
    program=PROGRAM,
    limit="two_processes",
)


def benchmark_variants() -> tuple[Variant, ...]:
    """Returns all variants, each after its peers, with the goals relative to stock."""
    mirrored = {"peer": STOCK_MIRRORED.name, "goal": 0.8, "other_goals": {"one_device": 1.3}}
    workers = {"peer": PATCHED_WORKERS.name, "goal": 0.55, "other_goals": {"torch_ddp": 1.3}}
    changes: dict[str, dict[str, Any]] = {"mirrored": mirrored, "workers": workers}
    result: list[Variant] = []
    for variant in VARIANTS:
        if variant.name == "mirrored":
            result.append(STOCK_MIRRORED)
        if variant.name == "workers":
            result.append(PATCHED_WORKERS)
        result.append(dataclasses.replace(variant, **changes.get(variant.name, {})))
    return tuple(result)


def start_variants() -> tuple[Variant, ...]:
    """Returns the variants of `tfscale bench startup`, and two workers of stock Keras."""
    patched = dataclasses.replace(
        PATCHED_WORKERS, program="tests.benchmarks.start_child", peer="torchrun", limit=None
    )
    result: list[Variant] = []
    for variant in startup.VARIANTS:
        if variant.name == "workers":
            result.append(patched)
        result.append(variant)
    return tuple(result)
