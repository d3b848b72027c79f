"""Files that commands and recipes write: all of a file or nothing, and only where a file belongs.

    write_whole("runs/digits/report.html", page)

    with whole_files("model.keras", "summary.json") as (model, summary):
        ...                                            # both appear here, or neither

| what stands at the path | what happens |
|---|---|
| nothing, or a file | the new file takes its place once it is complete |
| a character device, such as /dev/null | it is written into; so are /dev/stdout and /dev/fd/N |
| a link | refused; the message names its target |
| a folder, a FIFO, a socket, a block device | refused |

The temporary file lies in the same folder, under a random name that is created exclusively. It has
the permissions of the file that it replaces, otherwise those of any new file, and is removed when
writing fails. On other file systems (`gs://`) there are no links, and nothing is created
exclusively: there the name is only random.
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
# A link that appears in between is not followed, and a FIFO does not wait for its reader.
_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY if os.name == "posix" else 0


def write_whole(path: AnyPath, text: str) -> None:
    r"""Writes a text file, all of it or nothing.

    Args:
        path: The file, in a folder that exists; local, or of a file system that `tf.io.gfile`
            knows.
        text: Its text, written as UTF-8. What UTF-8 cannot hold, half of a surrogate pair, becomes
            its escape `\udcff`, which JSON reads back.

    Raises:
        OSError: If it cannot be written, or what stands there must not be replaced. What stood
            there before still does.

    Example:
        >>> write_whole(folder / "page.html", "<!doctype html>")
    """
    try:
        with whole_files(path) as (file,):
            file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise OSError(
            f"{os.fspath(path)} could not be written: {reason(error)}. Make room there, or name "
            "another place."
        ) from error


@contextlib.contextmanager
def whole_files(*paths: AnyPath) -> Iterator[list[BinaryIO]]:
    """Opens files for writing; they appear under their names once all of them are complete.

    Args:
        *paths: See `write_whole`.

    Returns:
        A context of the open binary files, in the order of their paths. If it ends with an error,
        no file has changed. Names are given one after the other when all files are complete.

    Raises:
        OSError: See `write_whole`; `reason` says why.

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
    """Refuses a path at which no file can be written, before there is anything to write.

    A file that is there is left as it is.

    Args:
        path: See `write_whole`.

    Raises:
        OSError: If what stands there must not be replaced, or nothing can be written next to it.
    """
    with contextlib.suppress(_Tried), whole_files(path) as (file,):
        file.close()
        raise _Tried


def open_log(path: AnyPath) -> BinaryIO:
    """Opens a local file for appending; makes it if need be.

    Args:
        path: The file, in a folder that exists.

    Raises:
        OSError: If it cannot be opened, or something else than a file stands there.
    """
    name = os.fspath(path)
    _refuse_what_stands_there(name)
    file = open(name, "ab", opener=lambda path, flags: os.open(path, flags | _SAFELY, 0o666))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a file", name)
    return file


def reason(error: BaseException) -> str:
    """Returns why something could not be written, in the system's or TensorFlow's words."""
    words = error.strerror if isinstance(error, OSError) else getattr(error, "message", None)
    return str(words or error)


class _Tried(Exception):
    """Nothing was to be written."""


class _Pending(Protocol):
    """A file on its way."""

    stream: BinaryIO

    def close(self) -> None:
        """Ends writing: all of it has arrived."""

    def commit(self) -> None:
        """Gives it its name."""

    def discard(self) -> None:
        """Removes what there is of it."""


def _pending(path: str) -> _Pending:
    local = path.removeprefix("file://")
    if "://" in local:
        return _Remote(local)
    stream = _STREAMS.get(local)
    found = _DESCRIPTOR.fullmatch(local)
    if stream is None and found:
        stream = int(found[1])
    if stream is not None:
        sys.stdout.flush()  # what was printed before comes before
        return _Device(os.dup(stream))
    mode = _refuse_what_stands_there(local)
    if mode is not None and stat.S_ISCHR(mode):
        return _Device(os.open(local, os.O_WRONLY | _SAFELY))
    return _Local(local, mode)


def _refuse_what_stands_there(path: str) -> int | None:
    """Returns the mode of what stands there, a file or a character device; None for nothing."""
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
        mode = _refuse_what_stands_there(self._path)
        if mode is not None and not stat.S_ISREG(mode):
            raise OSError(errno.EEXIST, "it has become a device", self._path)
        self._temporary.replace(self._path)

    def discard(self) -> None:
        self._temporary.unlink(missing_ok=True)
        self.stream.close()  # what is in its buffer may fail again


class _Device:
    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, True)
        self.stream: BinaryIO = os.fdopen(descriptor, "wb")

    def close(self) -> None:
        self.stream.close()

    def commit(self) -> None:
        """A device has all of it already."""

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
        self.stream.write(b"")  # it is opened by the first write

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
