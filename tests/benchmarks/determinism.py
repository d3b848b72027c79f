"""The cost of op determinism: each variant with it and without, in turn in one run.

python -m tests.benchmarks.determinism --model=mlp --rounds=7
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

from tests.benchmarks.peers import PROGRAM
from tfscale.bench.output import add_output_arguments, measured_and_printed
from tfscale.bench.step import add_race_arguments, run
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


def main() -> int:
    """Races what the flags say. Returns the exit status."""
    program = "python -m tests.benchmarks.determinism"
    parser = argparse.ArgumentParser(prog=program, allow_abbrev=False)
    parser.set_defaults(target=None)
    add_race_arguments(parser, variants())
    add_output_arguments(parser)
    return measured_and_printed(program, run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
