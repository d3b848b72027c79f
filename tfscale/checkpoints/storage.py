"""File systems that checkpoints lie on: this host's, and those TensorFlow knows by a scheme.

On a local one a directory appears under its name only once all is in it and on the disk. An object
store has no rename to rely on: there the manifest is written last, and a directory without one is
no checkpoint.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tfscale.checkpoints.uncached_file import uncached_file

MANIFEST = "manifest.json"


class Storage(Protocol):
    """Where the directories of checkpoints lie."""

    errors: tuple[type[Exception], ...]

    def names(self) -> list[str]:
        """Returns the names of the directories there are; none if there is no such place yet."""

    def open(self, directory: str, file: str) -> BinaryIO:
        """Opens a file for reading; raises one of `errors` if it is not there."""

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
        """Returns the names of the directories there are."""
        if not self._root.exists():
            return []
        return [path.name for path in self._root.iterdir() if path.is_dir()]

    def open(self, directory: str, file: str) -> BinaryIO:
        """Opens a file for reading."""
        return (self._root / directory / file).open("rb")

    @contextmanager
    def writing(self, directory: str) -> Iterator[Any]:
        """Writes beside the name, forces it to the disk, and renames.

        Nobody else writes to the same root meanwhile.
        """
        temporary = self._root / f".{directory}.partial"
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
        shutil.rmtree(removed, ignore_errors=True)
        with suppress(FileNotFoundError):
            (self._root / directory).rename(removed)
            shutil.rmtree(removed)


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
        """Returns the names of the directories there are."""
        if not self._files.isdir(self._root):
            return []
        return [name.rstrip("/") for name in self._files.listdir(self._root)]

    def open(self, directory: str, file: str) -> BinaryIO:
        """Opens a file for reading."""
        path = f"{self._root}/{directory}/{file}"
        self._files.stat(path)  # GFile itself looks only when it is read
        stream: BinaryIO = self._files.GFile(path, "rb")
        return stream

    @contextmanager
    def writing(self, directory: str) -> Iterator[Any]:
        """Writes in place: whoever calls writes the manifest last."""
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
        if self._files.exists(f"{path}/{MANIFEST}"):
            self._files.remove(f"{path}/{MANIFEST}")
        if self._files.isdir(path):
            self._files.rmtree(path)


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


def _sync(folder: Path) -> None:
    """Makes the names in a folder survive a loss of power, where a folder can be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
