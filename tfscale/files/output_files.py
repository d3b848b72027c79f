"""Writes output files atomically, and only where a regular file may be written.

    write_whole("runs/digits/report.html", page)

    with whole_files("model.keras", "summary.json") as (model, summary):
        ...                                            # both files appear at the end, or neither

| at the path | result |
|---|---|
| nothing, or a file | it is replaced once the new file is complete |
| a character device, such as /dev/null | it is written to; so are /dev/stdout and /dev/fd/N |
| a link | an error that names the link's target |
| a folder, a FIFO, a socket, a block device | an error |

The temporary file is in the same folder, under a random name that is created exclusively. It has
the permissions of the file that it replaces, or those of a new file, and is removed if writing
fails. Remote file systems (`gs://`) have no links and no exclusive creation; there the name is only
random.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tfscale.files.existence import kind_of

AnyPath = str | os.PathLike[str]

_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
)
# Do not follow a link that appears after the check, and do not wait for the reader of a FIFO.
_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY if os.name == "posix" else 0


def write_whole(path: AnyPath, text: str) -> None:
    r"""Writes a text file atomically.

    Args:
        path: The file, in an existing folder; local, or on a file system that `tf.io.gfile`
            supports.
        text: Its text, written as UTF-8. A lone surrogate, which UTF-8 cannot encode, is written
            as its escape (`\udcff`), which JSON reads back.

    Raises:
        OSError: If it cannot be written, or what exists at the path must not be replaced. An
            existing file is unchanged.

    Example:
        >>> write_whole(folder / "page.html", "<!doctype html>")
    """
    try:
        with whole_files(path) as (file,):
            file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise not_written(path, error) from error


@contextlib.contextmanager
def whole_files(*paths: AnyPath) -> Iterator[list[BinaryIO]]:
    """Opens files for writing. They appear under their names once all of them are complete.

    Args:
        *paths: See `write_whole`.

    Yields:
        The open binary files, in the order of their paths. If the block raises, no file changes.
        Once all files are complete, they are renamed one after the other.

    Raises:
        OSError: See `write_whole`; `reason` returns the cause.

    Example:
        >>> with whole_files(folder / "a.csv", folder / "b.csv") as (a, b):
        ...     count = a.write(b"1,2") + b.write(b"3,4")
    """
    pending: list[_Pending] = []
    try:
        for path in paths:
            pending.append(_pending(os.fspath(path)))
        yield [file.stream for file in pending]
        for file in pending:
            file.close()
        for file in pending:
            file.commit()
    except BaseException as error:
        for file in pending:
            with contextlib.suppress(Exception):
                file.discard()
        if _is_of_tensorflow(error):
            raise OSError(errno.EIO, reason(error)) from error
        raise


def require_writable(path: AnyPath) -> None:
    """Checks that a file can be written at a path, before there is anything to write.

    An existing file is not changed.

    Args:
        path: See `write_whole`.

    Raises:
        OSError: If what exists at the path must not be replaced, or its folder is not writable.
    """
    with contextlib.suppress(_CheckOnly), whole_files(path) as (file,):
        file.close()
        raise _CheckOnly


def open_log(path: AnyPath) -> BinaryIO:
    """Opens a local file for appending, and creates it if needed.

    Args:
        path: The file, in an existing folder.

    Raises:
        OSError: If it cannot be opened, or the path is not a regular file.
    """
    name = os.fspath(path)
    _replaceable_mode(name)
    file = open(name, "ab", opener=lambda path, flags: os.open(path, flags | _SAFELY, 0o666))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a file", name)
    return file


def reason(error: BaseException) -> str:
    """Returns why something could not be written, as the system or TensorFlow puts it."""
    text = error.strerror if isinstance(error, OSError) else getattr(error, "message", None)
    return str(text or error)


def not_written(path: AnyPath, error: OSError) -> OSError:
    """Returns the error of a path that cannot be written, with its cure."""
    cure = "Make its folder" if isinstance(error, FileNotFoundError) else "Make room there"
    return OSError(
        f"{os.fspath(path)} could not be written: {reason(error)}. {cure}, or name another place."
    )


class _CheckOnly(Exception):
    """Ends a write that was only a check."""


class _Pending(Protocol):
    """A file that is being written."""

    stream: BinaryIO

    def close(self) -> None:
        """Ends writing, with all data on disk."""

    def commit(self) -> None:
        """Moves the file to its final path."""

    def discard(self) -> None:
        """Removes what was written so far."""


def _pending(path: str) -> _Pending:
    local = path.removeprefix("file://")
    if "://" in local:
        return _Remote(local)
    stream = _STREAMS.get(local)
    found = _DESCRIPTOR.fullmatch(local)
    if stream is None and found:
        stream = int(found[1])
    if stream is not None:
        sys.stdout.flush()  # keeps the order of earlier prints
        return _Device(os.dup(stream))
    mode = _replaceable_mode(local)
    if mode is not None and stat.S_ISCHR(mode):
        return _Device(os.open(local, os.O_WRONLY | _SAFELY))
    return _Local(local, mode)


def _replaceable_mode(path: str) -> int | None:
    """Returns the mode of the file or character device at the path, or None if nothing exists."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(mode):
        target = os.path.realpath(path)
        raise OSError(
            errno.EEXIST, f"it is a link to {target}; name the target, or remove the link", path
        )
    for is_of_kind, kind in _KINDS:
        if is_of_kind(mode):
            raise OSError(errno.EEXIST, f"it is {kind}, not a file", path)
    return mode


class _Local:
    def __init__(self, path: str, mode: int | None) -> None:
        self._path = path
        self._temporary = Path(path).parent / f".{secrets.token_hex(8)}.partial"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY
        descriptor = os.open(self._temporary, flags, 0o666)
        self.stream: BinaryIO = os.fdopen(descriptor, "wb")
        if mode is not None:
            self._temporary.chmod(stat.S_IMODE(mode) & 0o777)

    def close(self) -> None:
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()

    def commit(self) -> None:
        mode = _replaceable_mode(self._path)
        if mode is not None and not stat.S_ISREG(mode):
            raise OSError(errno.EEXIST, "it was replaced by a device", self._path)
        self._temporary.replace(self._path)

    def discard(self) -> None:
        self._temporary.unlink(missing_ok=True)
        self.stream.close()  # flushing its buffer may fail again


class _Device:
    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, True)
        self.stream: BinaryIO = os.fdopen(descriptor, "wb")

    def close(self) -> None:
        self.stream.close()

    def commit(self) -> None:
        """Does nothing: the device has received everything already."""

    def discard(self) -> None:
        self.stream.close()


class _Remote:
    def __init__(self, path: str) -> None:
        import tensorflow as tf

        self._files = tf.io.gfile
        self._path = path
        folder, _, _ = path.rpartition("/")
        if kind_of(path) == "folder":
            raise OSError(errno.EISDIR, "it is a folder, not a file", path)
        self._temporary = f"{folder}/.{secrets.token_hex(8)}.partial"
        self.stream: Any = self._files.GFile(self._temporary, "wb")
        self.stream.write(b"")  # GFile opens the file at the first write

    def close(self) -> None:
        self.stream.close()

    def commit(self) -> None:
        self._files.rename(self._temporary, self._path, overwrite=True)

    def discard(self) -> None:
        self.stream.close()
        self._files.remove(self._temporary)


def _is_of_tensorflow(error: BaseException) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(error, tensorflow.errors.OpError)
