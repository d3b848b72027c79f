"""Program: a rank of MPI, without TensorFlow.

python -m tfscale.bench.peers.mpi_all_reduce ADDRESS mpi4py NUM_RANKS THREADS REDUCTION

Started by `mpiexec`.
"""

from __future__ import annotations

import sys

import numpy as np
from mpi4py import MPI

from tfscale.bench.collectives.reduction import (
    FLOAT_BYTES,
    Rank,
    Reduce,
    check_sum,
    reduce_in_turns,
)


def new_reduce(size: int) -> Reduce:
    """Returns the function that adds up arrays of a size, once its sum has been checked."""
    world = MPI.COMM_WORLD
    array = np.full([size // FLOAT_BYTES], 1.0 + world.Get_rank(), np.float32)
    world.Allreduce(MPI.IN_PLACE, array)
    check_sum(float(array[-1]), world.Get_size())
    array.fill(0)  # so that sums of sums stay finite

    def reduce(count: int) -> None:
        for _ in range(count):
            world.Allreduce(MPI.IN_PLACE, array)

    return reduce


def main() -> int:
    """Runs the turns of one rank. Returns the exit status."""
    rank = Rank.from_command_line()
    with rank.turns as turns:
        reduce_in_turns(rank.reduction, turns, new_reduce)
    return 0


if __name__ == "__main__":
    sys.exit(main())
