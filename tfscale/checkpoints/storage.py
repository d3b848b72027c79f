"""File systems that checkpoints lie on: this host's, and those TensorFlow knows by a scheme.

On a local one a directory appears under its name only once all is in it and on the disk. An object
store has no rename to rely on: there the manifest is written last, and a directory without one is
no checkpoint.
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

from tfscale.checkpoints.manifest import BrokenCheckpoint
from tfscale.checkpoints.uncached_file import uncached_file
from tfscale.files.existence import kind_of, names_in

MANIFEST = "manifest.json"
# Nothing is followed, and nothing is waited for: the other end of a pipe may never come.
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
        stream: Its bytes.
        size: How many there are.
    """

    stream: BinaryIO
    size: int


class Storage(Protocol):
    """Where the directories of checkpoints lie."""

    errors: tuple[type[Exception], ...]

    def names(self) -> list[str]:
        """Returns the names there are; none if there is no such place yet.

        Raises one of `errors` if the storage does not say.
        """

    def open(self, directory: str, file: str) -> OpenedFile:
        """Opens a file for reading.

        Raises one of `errors` if it is not there or cannot be read, and `BrokenCheckpoint` if it is
        no plain file.
        """

    def writing(self, directory: str) -> Any:
        """Makes a directory: a context of a function that opens its files for writing.

        The directory is there, in place of an earlier one, when the context ends; if it ends with
        an error, nothing is.
        """

    def remove(self, directory: str) -> None:
        """Removes a directory, so that at no time half of it looks whole."""


class LocalStorage:
    """A folder of this host, or of a file system mounted on it.

    Args:
        root: The folder.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def names(self) -> list[str]:
        """Returns the names there are. The root may be a link; a link to nowhere is an error."""
        try:
            with os.scandir(self._root) as entries:
                return [entry.name for entry in entries]
        except FileNotFoundError:
            if self._root.is_symlink():
                raise
            return []

    def open(self, directory: str, file: str) -> OpenedFile:
        """Opens a file for reading; below the root no link is followed."""
        folder = self._root / directory
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise BrokenCheckpoint("it is a link or a file, not a folder")
        if not stat.S_ISREG(os.lstat(folder / file).st_mode):
            raise BrokenCheckpoint(f"{file} is a link, a folder, a pipe or a device, not a file")
        descriptor = os.open(folder / file, _READING)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):  # it has changed since
            os.close(descriptor)
            raise BrokenCheckpoint(f"{file} is not a file")
        return OpenedFile(os.fdopen(descriptor, "rb"), status.st_size)

    @contextmanager
    def writing(self, directory: str) -> Iterator[Any]:
        """Writes beside the name, forces it to the disk, and renames.

        Nobody else writes to the same root meanwhile: a job holds its lease. The temporary name is
        a new one all the same, for a job that has lost its lease and does not know yet.
        """
        temporary = self._root / f".{directory}.{secrets.token_hex(4)}.partial"
        self._root.mkdir(parents=True, exist_ok=True)
        for left in self._root.glob(".step-*"):  # by a process that was killed
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
        """Renames, then removes."""
        removed = self._root / f".{directory}.removed"
        _delete(removed)  # left by a process that was killed
        with suppress(FileNotFoundError):
            (self._root / directory).rename(removed)
        _delete(removed)


class RemoteStorage:
    """A path of a file system that TensorFlow knows by its scheme, such as `gs://bucket/run`.

    Args:
        root: The path.
    """

    def __init__(self, root: str) -> None:
        import tensorflow as tf

        self._files = tf.io.gfile
        self._root = root.rstrip("/")
        self.errors: tuple[type[Exception], ...] = (OSError, tf.errors.OpError)

    def names(self) -> list[str]:
        """Returns the names there are."""
        return names_in(self._root) or []

    def open(self, directory: str, file: str) -> OpenedFile:
        """Opens a file for reading."""
        path = f"{self._root}/{directory}/{file}"
        found = self._files.stat(path)  # GFile itself looks only when it is read
        if found.is_directory:
            raise BrokenCheckpoint(f"{file} is a folder, not a file")
        return OpenedFile(self._files.GFile(path, "rb"), found.length)

    @contextmanager
    def writing(self, directory: str) -> Iterator[Any]:
        """Writes in place; the caller writes the manifest last."""
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
    """A GFile, whose `write` takes no memoryview."""

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
    """Deletes a folder with all in it, or a file or link, not what it points to, if it is there."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(folder: Path) -> None:
    """Makes the names in a folder survive a loss of power, where a folder can be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
