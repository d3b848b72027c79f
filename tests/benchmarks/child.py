"""Program: a child process that runs the turns of a peer, or with op determinism.

python -m tests.benchmarks.child ADDRESS VARIANT NUM_WORKERS THREADS RACE
"""

from __future__ import annotations

import functools
import sys

import tensorflow as tf

from tests.benchmarks.stock import own_shares, patched_workers, stock_mirrored
from tfscale.bench.child import WAYS as OWN_WAYS
from tfscale.bench.child import main
from tfscale.bench.gpus import Way
from tfscale.bench.training import fit_in_turns
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race


def to_the_bit(way: Way) -> Way:
    """The same with op determinism."""

    def taken(race: Race, turns: Turns, num_workers: int) -> None:
        tf.config.experimental.enable_op_determinism()
        way(race, turns, num_workers)

    return taken


WAYS: dict[str, Way] = {
    "stock_mirrored": functools.partial(fit_in_turns, stock_mirrored),
    "patched_workers": functools.partial(fit_in_turns, patched_workers, distributed=own_shares),
}
WAYS |= {f"{name}_bits": to_the_bit(way) for name, way in {**OWN_WAYS, **WAYS}.items()}


if __name__ == "__main__":
    sys.exit(main(WAYS, sys.argv[1:]))
