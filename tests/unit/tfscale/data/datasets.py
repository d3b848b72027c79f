"""Datasets of the tests of `indexed`. Imports no TensorFlow, as a user's module need not."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np

COUNT = 11


class Rows:
    """Example i is a dict of i, a vector, a text and a pair."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return {
            "id": index,
            "vector": np.full(3, index, np.float32),
            "text": f"é{index}",
            "pair": (index % 2 == 0, np.int32(-index)),
        }


class At(Rows):
    """Returns something else at example 7."""

    def __init__(self, other: Any) -> None:
        self.other = other

    def __getitem__(self, index: int) -> Any:
        return self.other if index == 7 else super().__getitem__(index)


class Does(Rows):
    """Does something at example 7."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __getitem__(self, index: int) -> Any:
        if index == 7:
            if self.what == "raise":
                raise KeyError("no such record")
            if self.what == "die":
                os._exit(3)
            if self.what == "kill":
                os.kill(os.getpid(), 9)
            if self.what == "print":
                print("x" * 1000)
            if self.what == "exit":
                sys.exit("left")
            if self.what == "hang":
                time.sleep(600)
        return super().__getitem__(index)


class Process:
    """Tells where example i is read."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return {
            "pid": os.getpid(),
            "tensorflow": "tensorflow" in sys.modules,
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "all"),
        }


class Slow(Rows):
    """Takes 5 ms of the processor for each example."""

    def __len__(self) -> int:
        return 4000

    def __getitem__(self, index: int) -> Any:
        until = time.thread_time() + 0.005
        while time.thread_time() < until:
            pass
        return np.int64(index)


class Several(Rows):
    """Reads several examples in one call."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.calls.append(indices)
        return [self[index] for index in indices]
