"""Fills a cache and stops in the middle, until it is killed: run by test_cache_files.

python filling_process.py FOLDER COUNT STOP

Says "filling" on stdout once it has read example STOP.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data import ReadSource, cached


class Texts:
    """Numbers and texts of different lengths. Waits after an example, if there is one."""

    fingerprint = "texts"

    def __init__(self, count: int, stop: int | None = None) -> None:
        self.num_examples, self.stop = count, stop
        spec = {"n": tf.TensorSpec([], tf.int64), "text": tf.TensorSpec([], tf.string)}
        self.element_spec = spec

    def read(self, indices: np.ndarray) -> Any:
        # A sample for an estimate is one example.
        if self.stop is not None and self.stop in indices and len(indices) > 1:
            print("filling", flush=True)
            time.sleep(600)
        texts = [b"%d" % i * int(i % 5) for i in indices]
        return {"n": indices, "text": np.array([*texts, None], object)[:-1]}


if __name__ == "__main__":
    cached(ReadSource(Texts(int(sys.argv[2]), int(sys.argv[3]))), sys.argv[1])
