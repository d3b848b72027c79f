"""A run's checkpoints: one directory a step, the newest whole one of which is resumed from."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from strategies.announcement import announce
from tfscale.checkpoints.manifest import BrokenCheckpoint, Manifest, Position
from tfscale.checkpoints.storage import MANIFEST, storage_at
from tfscale.checkpoints.tensors import Values, read_tensor, write_tensors

DATA = "tensors-00000.bin"
_NAME = re.compile(r"step-(\d{12,19})")


@dataclass(frozen=True)
class Content:
    """A checkpoint in memory.

    Attributes:
        position: Where training goes on.
        topology: What it was trained on, JSON values.
        tensors: The values by their keys.
        callbacks: The callbacks' state by their keys, JSON values.
    """

    position: Position
    topology: dict[str, Any]
    tensors: Mapping[str, Values]
    callbacks: dict[str, Any]


class CheckpointDirectory:
    """The checkpoints of one run.

    Args:
        path: A local folder, or a path of a file system that TensorFlow knows (`gs://bucket/run`).

    Example:
        >>> import numpy as np, tempfile
        >>> directory = CheckpointDirectory(tempfile.mkdtemp())
        >>> weights = {"w": Values(np.arange(3.0))}
        >>> directory.save(Content(Position(0, 5, 5), {}, weights, {}), keep=2)
        >>> directory.newest().tensors["w"].array
        array([0., 1., 2.])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._storage = storage_at(self.path)
        self._broken: set[int] = set()

    def steps(self) -> list[int]:
        """Returns the consumed batches of each checkpoint there seems to be, the fewest first."""
        found = (_NAME.fullmatch(name) for name in self._storage.names())
        return sorted(int(match[1]) for match in found if match)

    def save(self, content: Content, keep: int | None = None) -> None:
        """Writes a checkpoint, all or nothing; then removes older ones.

        Args:
            content: What it holds.
            keep: How many to keep, this one among them. Positive, or None for all.

        Raises:
            OSError: If it cannot be written. Those from before are whole.
        """
        step = content.position.batches
        errors = self._storage.errors
        try:
            with self._storage.writing(_name(step)) as opened:
                with opened(DATA) as file:
                    tensors = write_tensors(file, DATA, content.tensors)
                manifest = Manifest(content.position, content.topology, tensors, content.callbacks)
                with opened(MANIFEST) as file:
                    file.write(manifest.to_json().encode())
        except errors as error:
            raise OSError(
                f"The checkpoint after {step} batches could not be written to {self.path}: "
                f"{_reason(error)}. Earlier ones are whole. Make room or the folder writable, and "
                "start again: training resumes from the newest."
            ) from error
        self._broken.discard(step)
        if keep is not None:
            self._remove_older(step, keep)

    def read(self, step: int) -> Content:
        """Reads a checkpoint and checks every byte of it.

        Args:
            step: Its number of consumed batches.

        Raises:
            BrokenCheckpoint: If it is not whole.
        """
        with contextlib.ExitStack() as opened:
            files: dict[str, BinaryIO] = {}

            def open_file(name: str) -> BinaryIO:
                if name not in files:
                    files[name] = opened.enter_context(self._storage.open(_name(step), name))
                return files[name]

            try:
                manifest = Manifest.from_json(open_file(MANIFEST).read().decode(errors="replace"))
                tensors = {
                    key: read_tensor(key, stored, open_file)
                    for key, stored in manifest.tensors.items()
                }
            except self._storage.errors as error:
                raise BrokenCheckpoint(f"a file cannot be read: {_reason(error)}") from error
        if manifest.position.batches != step:
            raise BrokenCheckpoint(f"it is the one after {manifest.position.batches} batches")
        return Content(manifest.position, manifest.topology, tensors, manifest.callbacks)

    def newest(self) -> Content | None:
        """Returns the newest checkpoint that is whole, or None if there was never any.

        Each newer one that is damaged is named on standard error.

        Raises:
            ValueError: If there are checkpoints, and none is whole.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.read(step)
            except BrokenCheckpoint as error:
                self._broken.add(step)
                announce(
                    f"WARNING: the checkpoint {self.path}/{_name(step)} is damaged: {error}. "
                    "Falling back to the one before."
                )
        if steps:
            raise ValueError(
                f"`directory` must hold a checkpoint that is whole, or none. Received: directory="
                f"{self.path!r}, where all of {len(steps)} are damaged. Restore one from a backup, "
                "or name another folder to begin anew."
            )
        return None

    def clear(self) -> None:
        """Removes all checkpoints, the oldest first."""
        for step in self.steps():
            self._storage.remove(_name(step))

    def _remove_older(self, step: int, keep: int) -> None:
        """A damaged one does not count, or it could outlive the last whole one."""
        older = [number for number in self.steps() if number < step]
        whole = [number for number in older if number not in self._broken]
        kept = set(whole[len(whole) - (keep - 1) :] if keep > 1 else [])
        for number in older:
            if number not in kept:
                self._storage.remove(_name(number))
                self._broken.discard(number)


def _name(step: int) -> str:
    return f"step-{step:012d}"


def _reason(error: Exception) -> str:
    return str(getattr(error, "message", None) or error)
