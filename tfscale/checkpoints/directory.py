"""The checkpoints of a run: one directory per checkpoint. A run resumes from the newest intact."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from strategies.extension import announce
from tfscale.checkpoints.manifest import MOST_BYTES, BrokenCheckpoint, Manifest, Position
from tfscale.checkpoints.paths import target_path
from tfscale.checkpoints.storage import MANIFEST, OpenedFile, storage_at
from tfscale.checkpoints.storage_errors import answered, is_damage, reason
from tfscale.checkpoints.tensors import Values, check_layout, read_tensor, write_tensors

DATA = "tensors-00000.bin"
_NAME = re.compile(r"step-([0-9]{12,19})")


@dataclass(frozen=True)
class Content:
    """A checkpoint in memory.

    Attributes:
        position: The position at which training continues.
        topology: Description of the training, as JSON values.
        tensors: The values by key.
        callbacks: The callbacks' states by key, as JSON values.
    """

    position: Position
    topology: dict[str, Any]
    tensors: Mapping[str, Values]
    callbacks: dict[str, Any]


class CheckpointDirectory:
    """The checkpoints of one run.

    Args:
        path: A local folder, or a path with a scheme that TensorFlow supports (`gs://bucket/run`).

    Example:
        >>> directory = CheckpointDirectory(folder)
        >>> weights = {"w": Values(np.arange(3.0))}
        >>> directory.save(Content(Position(0, 5, 5), {}, weights, {}), keep=2)
        >>> directory.newest().tensors["w"].array
        array([0., 1., 2.])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = target_path("path", path)
        self._storage = storage_at(self.path)
        self._broken: set[int] = set()

    def steps(self) -> list[int]:
        """Returns the numbers of consumed batches in the checkpoints' names, in ascending order."""
        names = set(self._storage.names())
        numbers = (int(match[1]) for match in map(_NAME.fullmatch, names) if match)
        return sorted({number for number in numbers if _name(number) in names})

    def save(
        self,
        content: Content,
        keep: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Writes a checkpoint atomically, then removes older ones.

        Args:
            content: The content.
            keep: Number of checkpoints to keep, including this one. Positive, or None for all.
            check: Called before writing, before the checkpoint appears and before a removal. Raises
                if another job has taken over the folder.

        Raises:
            OSError: If it cannot be written. Earlier checkpoints stay intact.
        """
        step = content.position.batches
        errors = self._storage.errors
        check()
        try:
            with self._storage.writing(_name(step)) as opened:
                with opened(DATA) as file:
                    tensors = write_tensors(file, DATA, content.tensors)
                check()
                manifest = Manifest(content.position, content.topology, tensors, content.callbacks)
                with opened(MANIFEST) as file:
                    file.write(manifest.to_json().encode())
        except errors as error:
            raise OSError(
                f"The checkpoint after {step} batches could not be written to {self.path}: "
                f"{reason(error)}. Earlier ones are intact. Free disk space or make the folder "
                "writable, then run again: training resumes from the newest."
            ) from error
        self._broken.discard(step)
        if keep is not None:
            check()
            self._remove_older(step, keep)

    def read(self, step: int) -> Content:
        """Reads a checkpoint and verifies all of its checksums.

        Args:
            step: Its number of consumed batches.

        Raises:
            BrokenCheckpoint: If it is damaged.
            OSError: If the storage does not respond within about 20 s, or the checkpoint does not
                fit into memory. The checkpoint may be intact.
        """
        place = f"{self.path}/{_name(step)}"
        try:
            return answered(
                lambda: self._read(step), place, self._storage.errors, "reading a checkpoint"
            )
        except MemoryError as error:
            raise OSError(
                f"The checkpoint {place} does not fit into the free memory. It is not changed. "
                "Free memory, or use a host with more, then run again."
            ) from error

    def _read(self, step: int) -> Content:
        with contextlib.ExitStack() as streams:
            files: dict[str, OpenedFile] = {}

            def opened(name: str) -> OpenedFile:
                if name not in files:
                    files[name] = self._storage.open(_name(step), name)
                    streams.enter_context(files[name].stream)
                return files[name]

            try:
                manifest = _manifest_in(opened(MANIFEST))
                if manifest.position.batches != step:
                    batches = manifest.position.batches
                    raise BrokenCheckpoint(f"its manifest is that of {batches} batches")
                check_layout(manifest.tensors, lambda name: opened(name).size)
                tensors = {
                    key: read_tensor(key, stored, lambda name: opened(name).stream)
                    for key, stored in manifest.tensors.items()
                }
            except self._storage.errors as error:
                if is_damage(error):
                    raise BrokenCheckpoint(f"a file cannot be read: {reason(error)}") from error
                raise
        return Content(manifest.position, manifest.topology, tensors, manifest.callbacks)

    def newest(self, check: Callable[[Content], None] | None = None) -> Content | None:
        """Returns the newest intact checkpoint, or None if there are no checkpoints.

        Prints a warning on standard error for each newer one that is damaged.

        Args:
            check: Called with a checkpoint that was read; may raise `BrokenCheckpoint`.

        Raises:
            ValueError: If all checkpoints are damaged.
            OSError: If the storage does not respond within about 20 s. An older checkpoint is not
                used then, because work would be lost.
        """
        steps = answered(self.steps, self.path, self._storage.errors, "looking for checkpoints")
        for step in reversed(steps):
            try:
                content = self.read(step)
                if check is not None:
                    check(content)
            except BrokenCheckpoint as error:
                self._broken.add(step)
                announce(
                    f"WARNING: the checkpoint {self.path}/{_name(step)} is damaged: {error}. "
                    "Using the previous one."
                )
            else:
                return content
        if steps:
            raise ValueError(
                f"`directory` must contain an intact checkpoint, or none. Received: directory="
                f"{self.path!r}, where all {len(steps)} are damaged. Restore one from a backup, "
                "or use another folder to start from step 0."
            )
        return None

    def clear(self) -> None:
        """Removes all checkpoints, oldest first."""
        for step in self.steps():
            self._storage.remove(_name(step))

    def _remove_older(self, step: int, keep: int) -> None:
        """Removes older checkpoints. Damaged ones do not count, so that an intact one remains.

        A checkpoint that cannot be removed is only reported, because training matters more.
        """
        try:
            older = [number for number in self.steps() if number < step]
        except self._storage.errors as error:
            self._warn_of_left("Older checkpoints", error)
            return
        whole = [number for number in older if number not in self._broken]
        kept = set(whole[len(whole) - (keep - 1) :] if keep > 1 else [])
        for number in older:
            if number in kept:
                continue
            try:
                self._storage.remove(_name(number))
            except self._storage.errors as error:
                self._warn_of_left(f"The checkpoint {_name(number)}", error)
            else:
                self._broken.discard(number)

    def _warn_of_left(self, what: str, error: Exception) -> None:
        announce(
            f"WARNING: {what} in {self.path} could not be removed: {reason(error)}. Training "
            "continues; remove it manually if you need the space."
        )


def _name(step: int) -> str:
    return f"step-{step:012d}"


def _manifest_in(file: OpenedFile) -> Manifest:
    """Reads a manifest, of bounded size."""
    if not 0 < file.size <= MOST_BYTES:
        raise BrokenCheckpoint(f"its manifest has {file.size} bytes")
    try:
        return Manifest.from_json(file.stream.read(MOST_BYTES).decode())
    except UnicodeDecodeError as error:
        raise BrokenCheckpoint(f"its manifest cannot be read ({error})") from error
