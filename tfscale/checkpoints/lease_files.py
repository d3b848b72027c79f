"""Lease files: small files by which jobs show that they use a checkpoint folder.

A write replaces the whole file. Exclusive creation is not used, because object stores lack it and
the protocol does not need it.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tfscale.checkpoints.storage_errors import answered, lasts, reason

T = TypeVar("T")

MEMORY = "ram://"
PREFIX = ".lease-"
SUFFIX = ".json"
_MOST_BYTES = 65536
_NO_FOLDER = (errno.ENOENT, errno.EROFS, errno.EEXIST, errno.EISDIR)
_NO_BUCKET = 5
"""TensorFlow's error code for "not found"."""


class LeaseFiles(Protocol):
    """The lease files of one folder.

    Attributes:
        errors: The errors that the methods raise if the folder cannot be used.
    """

    errors: tuple[type[Exception], ...]

    def names(self) -> list[str]:
        """Returns the names of the lease files, sorted."""

    def read(self, name: str) -> bytes | None:
        """Returns the content of a lease file, or None if it does not exist."""

    def write(self, name: str, content: bytes) -> None:
        """Writes or replaces a lease file. Creates the folder if needed."""

    def remove(self, name: str) -> None:
        """Removes a lease file if it exists."""


class LocalLeaseFiles:
    """Lease files in a local folder, or in a mounted file system.

    Args:
        root: The folder.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def names(self) -> list[str]:
        """Returns the names of the leases."""
        try:
            return sorted(p.name for p in self._root.iterdir() if _is_lease(p.name))
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes | None:
        """Reads a lease file without blocking on other kinds of files."""
        try:
            descriptor = os.open(self._root / name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MOST_BYTES)

    def write(self, name: str, content: bytes) -> None:
        """Writes a temporary file and renames it.

        On a network file system both make this client refresh its listing of the folder.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        temporary = self._root / f"{name}.{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(content)
            temporary.replace(self._root / name)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def remove(self, name: str) -> None:
        """Removes a lease."""
        (self._root / name).unlink(missing_ok=True)


class RemoteLeaseFiles:
    """Lease files under a path with a scheme that TensorFlow supports.

    Args:
        root: The path.
    """

    def __init__(self, root: str) -> None:
        import tensorflow as tf

        self._files = tf.io.gfile
        self._missing = tf.errors.NotFoundError
        self._root = root
        self.errors: tuple[type[Exception], ...] = (OSError, tf.errors.OpError)

    def names(self) -> list[str]:
        """Returns the names of the leases."""
        try:
            return sorted(filter(_is_lease, self._files.listdir(self._root)))
        except self._missing:
            return []

    def read(self, name: str) -> bytes | None:
        """Reads a lease file.

        With a byte limit, because otherwise GFile uses the length, which TensorFlow caches for 5 s.
        """
        try:
            with self._files.GFile(f"{self._root}/{name}", "rb") as file:
                return bytes(file.read(_MOST_BYTES))
        except self._missing:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a lease file. An object store shows it once it is complete."""
        try:
            self._write(name, content)
        except self._missing:  # only file systems with folders need one
            self._files.makedirs(self._root)
            self._write(name, content)

    def remove(self, name: str) -> None:
        """Removes a lease."""
        with suppress(self._missing):
            self._files.remove(f"{self._root}/{name}")

    def _write(self, name: str, content: bytes) -> None:
        path = f"{self._root}/{name}"
        # In TensorFlow 2.21, opening a ram:// file for writing does not truncate it.
        written = f"{path}.partial" if path.startswith(MEMORY) else path
        with self._files.GFile(written, "wb") as file:
            file.write(content)
        if written != path:
            self._files.rename(written, path, overwrite=True)


class PatientLeaseFiles:
    """Lease files whose operations are retried for a short time if they fail.

    Args:
        place: The folder, for messages.
        files: The lease files.

    Raises:
        ValueError: From any method, if the folder cannot be written at all.
        OSError: If the file system does not respond; see `answered`.
    """

    def __init__(self, place: str, files: LeaseFiles) -> None:
        self.errors = files.errors
        self._place = place
        self._files = files

    def names(self) -> list[str]:
        """Returns the names of the leases."""
        return self._answered(self._files.names)

    def read(self, name: str) -> bytes | None:
        """Reads a lease."""
        return self._answered(lambda: self._files.read(name))

    def write(self, name: str, content: bytes) -> None:
        """Writes a lease."""
        self._answered(lambda: self._files.write(name, content))

    def remove(self, name: str) -> None:
        """Removes a lease."""
        self._answered(lambda: self._files.remove(name))

    def _answered(self, call: Callable[[], T]) -> T:
        return answered(
            lambda: self._refusing(call), self._place, self.errors, "acquiring the lease on it"
        )

    def _refusing(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except self.errors as error:
            if not is_unusable(error):
                raise
            raise ValueError(
                "`directory` must be a folder that this job can create or write to. Received: "
                f"directory={self._place!r}: {reason(error)}. Correct the path or its permissions."
            ) from error


def lease_files_at(root: str) -> LeaseFiles:
    """Returns the lease files of a folder.

    Args:
        root: A local folder, or a path with a scheme.
    """
    return RemoteLeaseFiles(root) if "://" in root else LocalLeaseFiles(root)


def is_unusable(error: Exception) -> bool:
    """Returns whether an error means that a lease can never be written to the folder.

    Args:
        error: The error of a write.
    """
    code, number = getattr(error, "error_code", None), getattr(error, "errno", None)
    return lasts(error) or code == _NO_BUCKET or number in _NO_FOLDER


def _is_lease(name: Any) -> bool:
    return str(name).startswith(PREFIX) and str(name).endswith(SUFFIX)
