"""The cost of op determinism: each variant with it and without, in turn in one run.

python -m tests.benchmarks.determinism --model=mlp --rounds=7
"""

from __future__ import annotations

import dataclasses
import sys

from tests.benchmarks.peers import PROGRAM
from tests.benchmarks.race import raced
from tfscale.bench.variant import VARIANTS, Variant

OURS = ("one_device", "mirrored", "workers")


def variants() -> tuple[Variant, ...]:
    """Returns the variants of tfscale, each followed by itself with op determinism."""
    result: list[Variant] = []
    for variant in VARIANTS:
        if variant.name in OURS:
            plain = dataclasses.replace(variant, peer=None, goal=None)
            bits = dataclasses.replace(
                plain,
                name=f"{plain.name}_bits",
                text="the same with op determinism",
                peer=plain.name,
                program=PROGRAM,
            )
            result += [plain, bits]
    return tuple(result)


if __name__ == "__main__":
    sys.exit(raced("python -m tests.benchmarks.determinism", variants()))
