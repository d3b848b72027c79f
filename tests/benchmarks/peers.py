"""The variants of the cost benchmark: those of `tfscale bench`, and the stock peers."""

from __future__ import annotations

import dataclasses

from tfscale.bench.variant import VARIANTS, Variant

PROGRAM = "tests.benchmarks.child"

STOCK_MIRRORED = Variant(
    "stock_mirrored", "fit, stock Mirrored, 2 logical CPUs", peer="stock", program=PROGRAM
)
PATCHED_WORKERS = Variant(
    "patched_workers", "fit, stock with W1 and W2, 2 workers", num_workers=2, program=PROGRAM
)
WORKERS = Variant(
    "workers",
    "fit, multi_worker_mirrored_strategy, 2 workers",
    peer="patched_workers",
    goal=0.7,
    num_workers=2,
    program=PROGRAM,
)


def benchmark_variants() -> tuple[Variant, ...]:
    """Returns all variants, each after its peer; the mirrored one has a goal relative to stock."""
    result: list[Variant] = []
    for variant in VARIANTS:
        if variant.name == "mirrored":
            result.append(STOCK_MIRRORED)
            variant = dataclasses.replace(variant, peer=STOCK_MIRRORED.name, goal=0.8)
        result.append(variant)
    return (*result, PATCHED_WORKERS, WORKERS)
