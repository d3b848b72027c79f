"""Program: a rank of torch.distributed.

python -m tfscale.bench.peers.torch_all_reduce ADDRESS ENGINE NUM_RANKS THREADS REDUCTION

ENGINE is "gloo" or "torch_nccl". Started by `torch.distributed.run`.
"""

from __future__ import annotations

import sys

import torch
from torch import distributed

from tfscale.bench.collectives.reduction import (
    FLOAT_BYTES,
    Rank,
    Reduce,
    check_sum,
    reduce_in_turns,
)
from tfscale.bench.peers.torch_steps import own_device, reason_without_cuda


def new_reduce(device: torch.device, size: int) -> Reduce:
    """Returns the function that adds up tensors of a size, once its sum has been checked."""
    tensor = torch.full([size // FLOAT_BYTES], 1.0 + distributed.get_rank(), device=device)
    distributed.all_reduce(tensor)
    check_sum(tensor[-1].item(), distributed.get_world_size())
    tensor.zero_()  # so that sums of sums stay finite

    def reduce(count: int) -> None:
        for _ in range(count):
            distributed.all_reduce(tensor)
        tensor[0].item()  # waits for a GPU

    return reduce


def main() -> int:
    """Runs the turns of one rank. Returns the exit status."""
    rank = Rank.from_command_line()
    with rank.turns as turns:
        torch.set_num_threads(rank.threads)
        if rank.engine == "torch_nccl":
            if reason := reason_without_cuda(rank.num_ranks):
                turns.fail("missing", reason)
                return 0
            device = own_device()
            torch.cuda.set_device(device)
            distributed.init_process_group("nccl")
        else:
            device = torch.device("cpu")
            distributed.init_process_group("gloo")
        reduce_in_turns(rank.reduction, turns, lambda size: new_reduce(device, size))
        distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
