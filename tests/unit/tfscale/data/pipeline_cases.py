"""What pipelines yield under one strategy, as JSON: run by test_pipeline.py in other processes.

Usage: python pipeline_cases.py KIND OUTPUT [REPLICAS ...], where KIND is "mirrored" for those
numbers of replicas, or "workers" for one of several workers started by `tfscale launch`.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import pyarrow
import pyarrow.parquet as parquet_library
import tensorflow as tf

import strategies
from tfscale.data import BlockShuffle, bucketed, input_pipeline, mixture, packed, parquet

EXAMPLES = 37
STEPS = 24  # More than three epochs of every case.


def noisy(batch: Any, seeds: tf.Tensor) -> Any:
    """An augmentation that cannot take a batch of no rows."""
    noise = tf.vectorized_map(lambda seed: tf.random.stateless_uniform([], seed), seeds)
    checks = [tf.debugging.assert_positive(tf.shape(seeds)[0])]
    with tf.control_dependencies(checks):
        return {"id": batch, "noise": noise, "seeds": seeds}


class Doubled:
    """A user's dataset."""

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, 2 * index


def table_of(folder: Path, ids: np.ndarray) -> Any:
    """A Parquet file of several row groups."""
    path = folder / "rows.parquet"
    if not path.exists():
        parquet_library.write_table(pyarrow.table({"id": ids, "half": ids / 2}), path, 5)
    return parquet(path)


def cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Arguments of `input_pipeline`, by name."""
    ids = np.arange(EXAMPLES)
    np.save(folder / "ids.npy", ids)
    memmap = np.load(folder / "ids.npy", mmap_mode="r")
    ragged = tf.RaggedTensor.from_row_lengths(np.repeat(ids, ids % 3 + 1), ids % 3 + 1)
    stream = tf.data.Dataset.range(EXAMPLES)
    sparse = tf.data.Dataset.from_tensor_slices(tf.sparse.from_dense(ids[:, np.newaxis] + 1))
    return {
        "arrays": {"source": ids, "global_batch_size": 6},
        "uneven replicas": {"source": ids, "global_batch_size": 7},
        "uneven replicas, dropped": {"source": ids, "global_batch_size": 7, "drop_remainder": True},
        "cached": {"source": Doubled(), "global_batch_size": 7, "cache": folder / "cache"},
        "kept": {"source": ids, "global_batch_size": 7, "keep": lambda batch: batch % 3 > 0},
        "mixture": {"source": mixture([(ids, 0.5), (-ids, 0.25)]), "global_batch_size": 7},
        "indexed": {"source": Doubled(), "global_batch_size": 7},
        "parquet": {"source": table_of(folder, ids), "global_batch_size": 7},
        "buckets": {
            "source": bucketed(ragged, boundaries=[1, 2, 3]),
            "global_batch_size": 5,
            "remainder": "drop",
        },
        "packed": {"source": packed(ragged, length=4, tokens=None), "global_batch_size": 5},
        "blocks": {"source": ids, "global_batch_size": 6, "shuffle": BlockShuffle(4, 3)},
        "whole batches": {"source": ids[:36], "global_batch_size": 6},
        "dropped remainder": {"source": ids, "global_batch_size": 6, "drop_remainder": True},
        "one batch": {"source": ids[:6], "global_batch_size": 6},
        "one example": {"source": ids[:7], "global_batch_size": 6, "seed": 2**31 - 1},
        "in order": {"source": ids, "global_batch_size": 12, "shuffle": False},
        "nested": {"source": {"a": (ids, ragged), "b": [ids.astype(str)]}, "global_batch_size": 12},
        "memmap": {"source": (memmap, ids), "global_batch_size": 6},
        "preprocessed": {
            "source": (ids, -ids),
            "global_batch_size": 6,
            "preprocess": lambda batch: tf.vectorized_map(lambda row: row[0] - row[1], batch),
        },
        "augmented": {"source": ids, "global_batch_size": 6, "augment": noisy},
        "stream": {"source": stream, "global_batch_size": 6, "shuffle_window": 8},
        "stream in order": {"source": stream, "global_batch_size": 6, "shuffle": False},
        "augmented stream": {"source": stream, "global_batch_size": 6, "augment": noisy},
        "short stream": {"source": stream, "global_batch_size": 12, "drop_remainder": True},
        "sparse stream": {"source": sparse, "global_batch_size": 6},
    }


def rows(part: Any) -> list[Any]:
    """The rows of one part of a batch."""
    if isinstance(part, tf.SparseTensor):
        part = tf.sparse.to_dense(part)
    if isinstance(part, tf.RaggedTensor):
        return list(part.to_list())
    return [row.decode() if isinstance(row, bytes) else row for row in part.numpy().tolist()]


def global_batches(dataset: tf.data.Dataset, steps: int, worker: int, replicas: int) -> list[Any]:
    """For each step this worker's rows of each part, and how many rows each replica has."""
    stream = iter(dataset)
    batches = []
    for _ in range(steps):
        shares = [[rows(part) for part in tf.nest.flatten(next(stream))] for _ in range(replicas)]
        parts = [list(itertools.chain(*same)) for same in zip(*shares, strict=True)]
        batches.append({"parts": parts, "sizes": [len(share[0]) for share in shares]})
    return batches


def read(strategy: tf.distribute.Strategy, worker: int, replicas: int) -> dict[str, Any]:
    """Everything test_pipeline.py compares."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in cases(Path(folder)).items():
            pipeline = input_pipeline(strategy=strategy, **arguments)
            steps = pipeline.steps_per_epoch
            dataset = pipeline.local(worker)
            later = pipeline.at(1, steps - 1).local(worker)
            found[name] = {
                "steps_per_epoch": steps,
                "batches": global_batches(dataset, STEPS, worker, replicas),
                "later": global_batches(later, STEPS - 2 * steps + 1, worker, replicas),
                "is_endless": int(dataset.cardinality()) == -1,
                "rows": [
                    None if spec.shape.rank is None else spec.shape[0]
                    for spec in tf.nest.flatten(dataset.element_spec)
                ],
            }
    return found


def main(kind: str, output: str, *numbers: str) -> None:
    """Writes what one process reads, a file for each layout; the most replicas come first."""
    if kind == "mirrored":
        for replicas in map(int, numbers):
            found = read(strategies.mirrored_strategy(replicas), 0, replicas)
            Path(f"{output}.{replicas}").write_text(json.dumps(found))
        return
    strategy = strategies.multi_worker_mirrored_strategy()
    worker = strategy.cluster_resolver.task_id
    # What a program seeds by worker must not change the order they share.
    tf.random.set_seed(worker)
    Path(f"{output}.{worker}").write_text(json.dumps(read(strategy, worker, 1)))


if __name__ == "__main__":
    main(*sys.argv[1:])
