"""The cost benchmark behind `make bench`.

python -m tests.benchmarks --model=mlp
python -m tests.benchmarks --model=tiny_mlp --variants=stock,one_device --rounds=9
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.peers import benchmark_variants
from tfscale.inspect.bench.command import add_race_arguments, run_and_print

PROGRAM = "python -m tests.benchmarks"


def main() -> int:
    """Races what the flags say; goals met or missed, 0."""
    parser = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False)
    parser.set_defaults(target=None)
    add_race_arguments(parser, benchmark_variants())
    return run_and_print(PROGRAM, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
