"""Program: one training step of PyTorch, with the time of each phase until it has ended.

python -m tfscale.bench.peers.torch_start FOLDER VARIANT NUM_WORKERS THREADS START
"""

from __future__ import annotations

import math
import os
import sys

from tfscale.bench.starting.phases import PhaseClock, Start


def main() -> int:
    """Takes one step and reports the phases. Returns the exit status."""
    folder, _, workers, threads, text = sys.argv[1:]
    start, num_workers = Start.from_json(text), int(workers)
    clock = PhaseClock(start.started)
    clock.end("launch")

    import torch
    from torch import distributed

    from tfscale.bench.peers.torch_models import TORCH_MODELS
    from tfscale.bench.peers.torch_steps import Training, join_group

    clock.end("imports")
    torch.set_num_threads(int(threads))
    if num_workers:
        join_group()
    clock.end("group")
    training = Training(start.model, TORCH_MODELS[start.model], num_workers)
    clock.end("build")
    assert math.isfinite(training.take(1))
    clock.end("first step")
    clock.report(folder)
    if num_workers:
        distributed.destroy_process_group()
        # In one start of ten the end of the interpreter aborts: "terminate called without an
        # active exception" (PyTorch 2.13, gloo). The step is over, so that end is left out.
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
