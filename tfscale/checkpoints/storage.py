"""File systems for checkpoints: local ones, and those that TensorFlow supports by a scheme.

On a local file system a directory appears under its name once it is complete and on disk. An object
store has no atomic rename. There the manifest is written last, and a directory without a manifest
is not a checkpoint.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tfscale.checkpoints.direct_file import uncached_file
from tfscale.checkpoints.manifest import BrokenCheckpoint
from tfscale.files.existence import kind_of, names_in

MANIFEST = "manifest.json"
# Do not follow links, and do not wait for the other end of a pipe.
_READING = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)  # Windows
)


@dataclass(frozen=True)
class OpenedFile:
    """A file of a checkpoint, opened for reading.

    Attributes:
        stream: The open stream.
        size: Size in bytes.
    """

    stream: BinaryIO
    size: int


class Storage(Protocol):
    """A file system with the directories of checkpoints."""

    errors: tuple[type[Exception], ...]

    def names(self) -> list[str]:
        """Returns the names in the root, or an empty list if it does not exist.

        Raises one of `errors` if the storage cannot be queried.
        """

    def open(self, directory: str, file: str) -> OpenedFile:
        """Opens a file for reading.

        Raises one of `errors` if it does not exist or cannot be read, and `BrokenCheckpoint` if it
        is not a regular file.
        """

    def writing(self, directory: str) -> Any:
        """Returns a context for writing a directory, which yields a function that opens its files.

        The directory appears at the end of the context and replaces an earlier one. If the context
        ends with an error, nothing appears.
        """

    def remove(self, directory: str) -> None:
        """Removes a directory so that it never looks complete in between."""


class LocalStorage:
    """A local folder, or one in a mounted file system.

    Args:
        root: The folder.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def names(self) -> list[str]:
        """Returns the names. The root may be a link; a broken link is an error."""
        try:
            with os.scandir(self._root) as entries:
                return [entry.name for entry in entries]
        except FileNotFoundError:
            if self._root.is_symlink():
                raise
            return []

    def open(self, directory: str, file: str) -> OpenedFile:
        """Opens a file for reading, without following links below the root."""
        folder = self._root / directory
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise BrokenCheckpoint("it is a link or a file, not a folder")
        if not stat.S_ISREG(os.lstat(folder / file).st_mode):
            raise BrokenCheckpoint(f"{file} is a link, a folder, a pipe or a device, not a file")
        descriptor = os.open(folder / file, _READING)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):  # it has changed in between
            os.close(descriptor)
            raise BrokenCheckpoint(f"{file} is not a file")
        return OpenedFile(os.fdopen(descriptor, "rb"), status.st_size)

    @contextmanager
    def writing(self, directory: str) -> Iterator[Any]:
        """Writes to a temporary name, syncs to disk, and renames.

        Only the job with the lease writes to the root. The temporary name is random anyway, because
        another job may have lost its lease without knowing it yet.
        """
        temporary = self._root / f".{directory}.{secrets.token_hex(4)}.partial"
        self._root.mkdir(parents=True, exist_ok=True)
        for left in self._root.glob(".step-*"):  # left by a killed process
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()

        try:
            yield lambda file: uncached_file(temporary / file)
            _sync(temporary)
            self.remove(directory)  # a damaged one of the same step
            temporary.rename(self._root / directory)
            _sync(self._root)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def remove(self, directory: str) -> None:
        """Renames the directory, then removes it."""
        removed = self._root / f".{directory}.removed"
        _delete(removed)  # left by a killed process
        with suppress(FileNotFoundError):
            (self._root / directory).rename(removed)
        _delete(removed)


class RemoteStorage:
    """A path with a scheme that TensorFlow supports, such as `gs://bucket/run`.

    Args:
        root: The path.
    """

    def __init__(self, root: str) -> None:
        import tensorflow as tf

        self._files = tf.io.gfile
        self._root = root.rstrip("/")
        self.errors: tuple[type[Exception], ...] = (OSError, tf.errors.OpError)

    def names(self) -> list[str]:
        """Returns the names in the root."""
        return names_in(self._root) or []

    def open(self, directory: str, file: str) -> OpenedFile:
        """Opens a file for reading."""
        path = f"{self._root}/{directory}/{file}"
        found = self._files.stat(path)  # GFile opens the file only when it is read
        if found.is_directory:
            raise BrokenCheckpoint(f"{file} is a folder, not a file")
        return OpenedFile(self._files.GFile(path, "rb"), found.length)

    @contextmanager
    def writing(self, directory: str) -> Iterator[Any]:
        """Writes in place. The caller writes the manifest last."""
        self.remove(directory)
        self._files.makedirs(f"{self._root}/{directory}")

        @contextmanager
        def opened(file: str) -> Iterator[Any]:
            with self._files.GFile(f"{self._root}/{directory}/{file}", "wb") as stream:
                yield _BytesOnly(stream)

        try:
            yield opened
        except BaseException:
            with suppress(*self.errors):
                self.remove(directory)
            raise

    def remove(self, directory: str) -> None:
        """Removes the manifest, then the rest."""
        path = f"{self._root}/{directory}"
        if kind_of(f"{path}/{MANIFEST}") == "file":
            self._files.remove(f"{path}/{MANIFEST}")
        if (kind := kind_of(path)) == "folder":
            self._files.rmtree(path)
        elif kind == "file":
            self._files.remove(path)


class _BytesOnly:
    """Converts to bytes for a GFile, whose `write` does not accept a memoryview."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(bytes(data))


def storage_at(root: str) -> Storage:
    """Returns the storage of a path.

    Args:
        root: A local folder, or a path with a scheme.
    """
    return RemoteStorage(root) if "://" in root else LocalStorage(root)


def _delete(path: Path) -> None:
    """Deletes a folder with its content, a file, or a link (not its target), if it exists."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(folder: Path) -> None:
    """Syncs the names in a folder to disk, on systems where a folder can be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
