"""The program of PyTorch's processes: takes training steps in turns, alone or under DDP.

python -m tfscale.bench.peers.torch_steps ADDRESS VARIANT NUM_WORKERS THREADS RACE

The workers are started by `torch.distributed.run`, which is what the command `torchrun` runs.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import distributed, nn

from tfscale.bench.models import BATCHES, MODELS
from tfscale.bench.peers.torch_models import TORCH_MODELS, adam
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race

SEED = 0


class Training:
    """A model, its optimizer and its batches in memory.

    Args:
        name: A name of `TORCH_MODELS`.
        num_workers: Workers of the group, which is initialized; 0 for a single process.
    """

    def __init__(self, name: str, num_workers: int) -> None:
        torch.manual_seed(SEED)
        self._model = TORCH_MODELS[name].module()
        if num_workers:
            self._model = nn.parallel.DistributedDataParallel(self._model)
        self._loss = TORCH_MODELS[name].loss
        self._optimizer = adam(self._model)
        self._batches = _own_batches(name, num_workers)

    def take(self, steps: int) -> float:
        """Takes steps and returns their mean loss, which waits until they have finished."""
        total = torch.zeros(())
        for i in range(steps):
            x, y = self._batches[i % len(self._batches)]
            self._optimizer.zero_grad()
            loss = self._loss(self._model(x), y)
            loss.backward()
            self._optimizer.step()
            total += loss.detach()
        return float(total) / steps


def _own_batches(name: str, num_workers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Returns the rows of this worker of each global batch, as `fit` distributes them."""
    rows = MODELS[name].batch_size
    count = max(1, num_workers)
    rank = distributed.get_rank() if num_workers else 0
    x, y = MODELS[name].examples(BATCHES * rows * count)
    if y.dtype == "int32":
        y = y.astype("int64")  # PyTorch's classes are 64-bit
    starts = [(batch * count + rank) * rows for batch in range(BATCHES)]
    return [
        (torch.tensor(x[start : start + rows]), torch.tensor(y[start : start + rows]))
        for start in starts
    ]


def main(arguments: list[str]) -> int:
    """Runs the turns of one process. Returns the exit status."""
    address, _, workers, threads, text = arguments
    race, num_workers = Race.from_json(text), int(workers)
    torch.set_num_threads(int(threads))
    with Turns(address, race.patience_seconds) as turns:
        if race.model not in TORCH_MODELS:
            turns.fail("missing", f"{race.target or race.model} has no version in PyTorch")
            return 0
        if num_workers:
            distributed.init_process_group("gloo")
        training = Training(race.model, num_workers)
        turns.ready(_finite(training.take(race.steps)))
        for _ in range(race.rounds):
            turns.start()
            _finite(training.take(race.steps))
            turns.finish()
        if num_workers:
            distributed.destroy_process_group()
    return 0


def _finite(loss: float) -> float:
    if not math.isfinite(loss):
        raise RuntimeError(f"The loss must be finite. Received: loss={loss}.")
    return loss


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
