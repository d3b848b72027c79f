"""What op determinism costs: each of ours with it and without, turn by turn in one run.

python -m tests.benchmarks.determinism --model=mlp --rounds=7
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.peers import PROGRAM, WORKERS
from tfscale.inspect.bench.command import add_race_arguments, run_and_print
from tfscale.inspect.bench.variant import VARIANTS, Variant

NAME = "python -m tests.benchmarks.determinism"
OURS = ("one_device", "mirrored", "workers")


def variants() -> tuple[Variant, ...]:
    """Returns ours, each before itself with op determinism."""
    result: list[Variant] = []
    for variant in (*VARIANTS, WORKERS):
        if variant.name in OURS:
            name, text, workers = variant.name, variant.text, variant.num_workers
            plain = Variant(name, text, num_workers=workers, program=variant.program)
            bits = Variant(
                f"{name}_bits", "the same with op determinism", name, None, workers, PROGRAM
            )
            result += [plain, bits]
    return tuple(result)


def main() -> int:
    """Races what the flags say."""
    parser = argparse.ArgumentParser(prog=NAME, allow_abbrev=False)
    parser.set_defaults(target=None)
    add_race_arguments(parser, variants())
    return run_and_print(NAME, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
