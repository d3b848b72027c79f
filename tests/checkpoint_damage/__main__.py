"""Runs the trials and prints the outcomes of each kind of damage; status 1 if one is wrong.

python -m tests.checkpoint_damage --trials=20000 --seed=0
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

from tests.checkpoint_damage.trials import report, run_trials

MEMORY_BYTES = 16 * 2**30
"""Of address space, most of which is TensorFlow's."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    # A reader that trusts any shape, or reads a device to its end, then fails before the host does.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        found = run_trials(Path(folder), given.trials, given.seed)
    print(report(found))
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
