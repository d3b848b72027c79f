"""The run that is damaged: two checkpoints, with tensors of several kinds, files and callbacks."""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np

from tfscale.checkpoints import CheckpointDirectory, Content, Position
from tfscale.checkpoints.callback_state import callback_states
from tfscale.checkpoints.tensors import Values

STEPS = (2, 4)
NEWEST = STEPS[-1]
MANIFEST, DATA, SHARD = "manifest.json", "tensors-00000.bin", "tensors-00001.bin"
Files = dict[str, bytes]


def callbacks() -> list[Any]:
    """Returns Keras's callbacks whose states are restored, in the state of a begun training."""
    found = [
        keras.callbacks.EarlyStopping("loss", restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss"),
        keras.callbacks.ModelCheckpoint("never_written.keras", "loss", save_best_only=True),
    ]
    for callback in found:
        callback.set_model(_model())
    for callback in found[:2]:
        callback.on_train_begin()
    return found


@functools.cache
def _model() -> keras.Model:
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


@functools.cache
def content(step: int) -> Content:
    """Returns the content of the checkpoint of a step; all values differ from other steps."""
    rng = np.random.default_rng(step)
    trained = callbacks()
    trained[0].best, trained[0].wait = float(rng.normal()), step
    trained[0].best_weights = [rng.normal(size=(2, 3)), rng.normal(size=3)]
    states, kept = callback_states(trained)
    tensors = {
        "model/kernel": Values(rng.normal(size=(5, 7)).astype(np.float32)),
        "model/half": Values(rng.normal(size=(3, 4)).astype(ml_dtypes.bfloat16)),
        "model/none": Values(np.zeros([0, 4], np.float32)),
        "optimizer/count": Values(np.array(1000 + step, np.int64)),
        "metrics/hits": Values(rng.normal(size=(3, 2)).astype(np.float32), is_per_replica=True),
        "metrics/flags": Values(rng.integers(0, 2, 9).astype(bool)),
        **kept,
    }
    topology = {"num_replicas": 3, "num_workers": 1, "steps_per_epoch": 9, "order": "in order"}
    position = Position(step // 3, step % 3, step)
    return Content(position, topology, tensors, states)


def name(step: int) -> str:
    return f"step-{step:012d}"


def write_run(folder: Path) -> dict[int, Files]:
    """Writes the run, and moves one tensor of each checkpoint into two slices of a second file.

    Returns:
        The files of each step.
    """
    directory = CheckpointDirectory(folder)
    found = {}
    for step in STEPS:
        directory.save(content(step))
        place = folder / name(step)
        manifest = json.loads((place / MANIFEST).read_text())
        array = content(step).tensors["model/kernel"].array
        halves = {(0, 0): array[:, :3], (0, 3): array[:, 3:]}
        slices, shard = [], b"not a tensor"
        for start, half in halves.items():
            data = half.tobytes()
            slices.append(
                {
                    "file": SHARD,
                    "offset": len(shard),
                    "start": list(start),
                    "shape": list(half.shape),
                    "crc32": zlib.crc32(data),
                }
            )
            shard += data
        manifest["tensors"]["model/kernel"]["slices"] = slices
        (place / SHARD).write_bytes(shard)
        (place / MANIFEST).write_text(signed(manifest))
        found[step] = {path.name: path.read_bytes() for path in place.iterdir()}
    return found


def signed(manifest: Any) -> str:
    """Returns a manifest's text with its checksum: docs/concepts/checkpoint_format.md."""
    if not isinstance(manifest, dict):
        return json.dumps(manifest)
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return json.dumps({**rest, "sha256": hashlib.sha256(text.encode()).hexdigest()})
