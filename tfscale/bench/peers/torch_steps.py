"""The program of PyTorch's processes: takes training steps in turns, alone or under DDP.

python -m tfscale.bench.peers.torch_steps ADDRESS VARIANT NUM_WORKERS THREADS RACE

The workers are started by `torch.distributed.run`, which is what the command `torchrun` runs.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed, nn

from tfscale.bench.models import BATCHES, model_named
from tfscale.bench.peers.torch_models import TorchModel, adam, torch_model_named
from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race

SEED = 0
IMPORTED = "torch_imported"
"""The variant that trains nothing: its memory is that of the library."""
ON_GPU = ("torch_cuda", "torch_cuda_ddp")
"""Variants that are compared with GPUs, and so are missing without one."""


class Training:
    """A model, its optimizer and its batches in memory, on the GPU of this process if it has one.

    Args:
        name: A name of `models.model_named`.
        model: Its version in PyTorch.
        num_workers: Workers of the group, which is initialized; 0 for a single process.
    """

    def __init__(self, name: str, model: TorchModel, num_workers: int) -> None:
        torch.manual_seed(SEED)
        self._device = own_device()
        self._model = model.module().to(self._device)
        if num_workers:
            self._model = nn.parallel.DistributedDataParallel(self._model)
        self._loss = model.loss
        self._optimizer = adam(self._model)
        self._batches = [
            (torch.tensor(x, device=self._device), torch.tensor(y, device=self._device))
            for x, y in _own_batches(name, num_workers)
        ]

    def take(self, steps: int) -> float:
        """Takes steps and returns their mean loss, which waits until they have finished."""
        total = torch.zeros((), device=self._device)
        for i in range(steps):
            x, y = self._batches[i % len(self._batches)]
            self._optimizer.zero_grad()
            loss = self._loss(self._model(x), y)
            loss.backward()
            self._optimizer.step()
            total += loss.detach()
        return float(total) / steps


def own_device() -> torch.device:
    """Returns the GPU of this process, or the CPU on a host without one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def reason_without_cuda(num_workers: int) -> str:
    """Returns why workers cannot have a GPU each; "" if they can.

    Args:
        num_workers: Workers; 0 for a single process.
    """
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no GPU; for CUDA: make peers PEERS_PIP="
    if num_workers > torch.cuda.device_count():
        return f"{num_workers} workers need a GPU each"
    return ""


def join_group() -> None:
    """Waits for the other workers: by NCCL if each has a GPU, otherwise by gloo."""
    device = own_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def _own_batches(name: str, num_workers: int) -> Iterator[tuple[Any, Any]]:
    """Yields the rows of this worker of each global batch, as `fit` distributes them."""
    rows = model_named(name).batch_size
    count = max(1, num_workers)
    rank = distributed.get_rank() if num_workers else 0
    x, y = model_named(name).examples(BATCHES * rows * count)
    if y.dtype == "int32":
        y = y.astype("int64")  # PyTorch's classes are 64-bit
    for batch in range(BATCHES):
        start = (batch * count + rank) * rows
        yield x[start : start + rows], y[start : start + rows]


def main(arguments: list[str]) -> int:
    """Runs the turns of one process. Returns the exit status."""
    address, variant, workers, threads, text = arguments
    race, num_workers = Race.from_json(text), int(workers)
    torch.set_num_threads(int(threads))
    # As in TensorFlow's threads: after some turns the models fit their 8 batches, and the gradients
    # are so small that arithmetic on denormals takes most of the time.
    torch.set_flush_denormal(True)
    with Turns(address, race.patience_seconds) as turns:
        model = torch_model_named(race.model)
        if model is None:
            turns.fail("missing", f"{race.target or race.model} has no version in PyTorch")
            return 0
        if variant in ON_GPU and (reason := reason_without_cuda(num_workers)):
            turns.fail("missing", reason)
            return 0
        if torch.cuda.is_available():
            turns.device_bytes = torch.cuda.max_memory_allocated
        if num_workers:
            join_group()
        take = (
            (lambda _: 0.0)
            if variant == IMPORTED
            else Training(race.model, model, num_workers).take
        )
        turns.ready(_finite(take(race.steps)))
        for _ in range(race.rounds):
            turns.start()
            _finite(take(race.steps))
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
