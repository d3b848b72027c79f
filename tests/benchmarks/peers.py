"""The variants of the cost benchmark: those of `tfscale bench`, and the stock peers."""

from __future__ import annotations

import dataclasses

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
    """Returns all variants, each after its peer, with the goals relative to stock."""
    peers = {"mirrored": (STOCK_MIRRORED, 0.8), "workers": (PATCHED_WORKERS, 0.55)}
    result: list[Variant] = []
    for variant in VARIANTS:
        if variant.name in peers:
            peer, goal = peers[variant.name]
            result.append(peer)
            variant = dataclasses.replace(variant, peer=peer.name, goal=goal)
        result.append(variant)
    return tuple(result)
