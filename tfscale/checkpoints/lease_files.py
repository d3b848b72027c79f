"""Small files in a folder of checkpoints, by which jobs tell each other that they use it.

A write replaces the file as a whole. No file is ever made on the condition that it is not there:
object stores do not offer that, and it is not needed.
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
"""TensorFlow's code for what is not found."""


class LeaseFiles(Protocol):
    """The leases in one folder.

    Attributes:
        errors: What the methods raise where the folder cannot be used.
    """

    errors: tuple[type[Exception], ...]

    def names(self) -> list[str]:
        """Returns the names of the leases there are, in order."""

    def read(self, name: str) -> bytes | None:
        """Returns what a lease says, or None if it is not there."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a lease, in place of an earlier one; makes the folder if it is not there."""

    def remove(self, name: str) -> None:
        """Removes a lease, if it is there."""


class LocalLeaseFiles:
    """Leases in a folder of this host, or of a file system mounted on it.

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
        """Reads a regular file; anything else is not waited for."""
        try:
            descriptor = os.open(self._root / name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MOST_BYTES)

    def write(self, name: str, content: bytes) -> None:
        """Writes beside the name, and renames.

        On a network file system both make this client ask for the folder's names next time.
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
    """Leases under a path of a file system that TensorFlow knows by its scheme.

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
        """Reads a lease: as many bytes as there are.

        Without a number GFile would ask for the length, which TensorFlow remembers for 5 s.
        """
        try:
            with self._files.GFile(f"{self._root}/{name}", "rb") as file:
                return bytes(file.read(_MOST_BYTES))
        except self._missing:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a lease; an object store shows it when all of it is there."""
        try:
            self._write(name, content)
        except self._missing:  # an object store knows no folders, others need one
            self._files.makedirs(self._root)
            self._write(name, content)

    def remove(self, name: str) -> None:
        """Removes a lease."""
        with suppress(self._missing):
            self._files.remove(f"{self._root}/{name}")

    def _write(self, name: str, content: bytes) -> None:
        path = f"{self._root}/{name}"
        # Of TensorFlow 2.21: to open a file of ram:// for writing keeps what is in it.
        written = f"{path}.partial" if path.startswith(MEMORY) else path
        with self._files.GFile(written, "wb") as file:
            file.write(content)
        if written != path:
            self._files.rename(written, path, overwrite=True)


class PatientLeaseFiles:
    """Leases in a folder whose file system is asked again, for a short time, where it fails.

    Args:
        place: The folder, for messages.
        files: Its leases.

    Raises:
        ValueError: From any method, if no lease can ever be written there.
        OSError: If the file system does not answer; see `answered`.
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
            lambda: self._refusing(call), self._place, self.errors, "taking the lease on it"
        )

    def _refusing(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except self.errors as error:
            if not is_unusable(error):
                raise
            raise ValueError(
                "`directory` must be a folder that this job can write to, or can make. Received: "
                f"directory={self._place!r}: {reason(error)}. Correct the path or its permissions."
            ) from error


def lease_files_at(root: str) -> LeaseFiles:
    """Returns the leases of a folder.

    Args:
        root: A local folder, or a path with a scheme.
    """
    return RemoteLeaseFiles(root) if "://" in root else LocalLeaseFiles(root)


def is_unusable(error: Exception) -> bool:
    """Tells whether an error says that a lease can never be written there.

    Args:
        error: What a write raised.
    """
    code, number = getattr(error, "error_code", None), getattr(error, "errno", None)
    return lasts(error) or code == _NO_BUCKET or number in _NO_FOLDER


def _is_lease(name: Any) -> bool:
    return str(name).startswith(PREFIX) and str(name).endswith(SUFFIX)
