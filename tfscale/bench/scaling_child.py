"""The program of a child process of `tfscale bench scaling`: replicas_N or workers_N.

python -m tfscale.bench.scaling_child ADDRESS VARIANT NUM_WORKERS THREADS RACE
"""

from __future__ import annotations

import sys
from typing import Any

import strategies
from tfscale.bench import child
from tfscale.bench.gpus import one_gpu_each, with_gpus
from tfscale.bench.training import fit_in_turns
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race


def main(arguments: list[str]) -> int:
    """Runs the turns of one process. Returns the exit status."""
    variant = arguments[1]
    kind, _, count = variant.rpartition("_")

    def new_strategy() -> Any:
        if kind == "workers":
            return strategies.multi_worker_mirrored_strategy(bring_up_seconds=120)
        if int(count) == 1:
            return strategies.one_device_strategy()
        return strategies.mirrored_strategy(int(count))

    def way(race: Race, turns: Turns, num_workers: int) -> None:
        # The global batch of a cluster is that of one device, and its workers divide it.
        fit_in_turns(new_strategy, race, turns, num_workers=0)

    limited = one_gpu_each if kind == "workers" else with_gpus
    return child.main({variant: limited(way, int(count))}, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
