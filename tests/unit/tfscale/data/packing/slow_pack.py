"""A pack that takes some seconds, in a process that is killed."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data import ReadSource, pack
from tfscale.data.packing.plan import contents
from tfscale.data.packing.remaking import remake
from tfscale.records.manifest import read_manifest
from tfscale.records.placing import put_back, write_lost_indexes
from tfscale.records.verification import REMADE, verified

_EXAMPLES = 160
_SHARDS = 8


class SlowReader:
    """Examples of some kB, each of which takes some milliseconds."""

    num_examples = _EXAMPLES
    fingerprint = "slow"
    element_spec = (tf.TensorSpec([], tf.int64), tf.TensorSpec([2000], tf.uint8))

    def __init__(self, pause: float) -> None:
        self._pause = pause

    def read(self, indices: np.ndarray) -> Any:
        time.sleep(self._pause * len(indices))
        pixels = (indices[:, np.newaxis] * np.arange(2000)) % 251
        return indices, pixels.astype(np.uint8)


def packed(folder: Path, kind: str, container: str, compression: str, pause: float) -> None:
    """Packs the examples, as a source or as a dataset."""
    source: Any = ReadSource(SlowReader(pause))
    if kind == "dataset":
        rows = tf.data.Dataset.range(0, _EXAMPLES, 4).map(
            lambda row: source.take(row + tf.range(4, dtype=tf.int64))
        )
        source = rows.unbatch().apply(tf.data.experimental.assert_cardinality(_EXAMPLES))
    pack(
        source,
        folder,
        container=container,
        compression=None if compression == "none" else compression,
        num_shards=_SHARDS,
        jobs=2,
        description="slow examples",
    )


def repaired(folder: Path, pause: float) -> None:
    """Repairs a set of these examples, as `tfscale data inspect --repair --source` does."""
    manifest = read_manifest(folder)
    states = verified(folder, manifest, jobs=1, say=print)
    if put_back(folder, states):
        states = verified(folder, manifest, jobs=1, say=print)
    write_lost_indexes(folder, states)
    lost = [state.file for state in states if state.state in REMADE]
    remake(folder, manifest, lost, contents(ReadSource(SlowReader(pause))), say=print)


def killed(
    seconds: float,
    folder: Path,
    *arguments: Any,
    work: Callable[..., None] = packed,
    shards: int = 0,
) -> int:
    """Starts `work` in a process, and kills it some time after it has begun.

    Args:
        seconds: How long it may work.
        folder: Folder of the set.
        *arguments: The others of `work`.
        work: What the process does.
        shards: The time counts from when so many shards are complete.

    Returns:
        How many shards are complete in the end.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.unit.tfscale.data.packing.slow_pack"])
    here, there = context.Pipe()
    process = context.Process(target=_begin, args=(there, work, (folder, *arguments)))
    process.start()
    here.recv()
    while process.is_alive() and len(_complete(folder)) < shards:
        time.sleep(0.002)
    process.join(seconds)
    process.kill()
    process.join()
    return len(_complete(folder))


def _complete(folder: Path) -> list[Path]:
    return list(folder.glob("examples-*record"))


def _begin(connection: Any, work: Callable[..., None], arguments: Any) -> None:
    connection.send("began")
    work(*arguments)
