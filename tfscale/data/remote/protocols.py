"""What is known of a remote file, and how it is downloaded.

`gs://` is read through `tf.io.gfile`, like every path of TensorFlow; all other schemes through
fsspec, which knows `s3://`, `http://`, `https://`, `memory://` and others.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf

from strategies.extension import Deadline, announce
from tfscale.files.secret_masking import masked_text

_BY_TENSORFLOW = ("gs", "ram", "hdfs")
_CHUNK_BYTES = 8 << 20
# A connection that gives no byte for so long is broken.
_SILENCE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
# What a file system says of a file that differs if its content does.
_TAGS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "created", "md5", "crc32c")
# The local disk is full, too small for the file, or broken.
_LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_GONE_FROM_TENSORFLOW = (
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnauthenticatedError,
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
)

Result = TypeVar("Result")


class TransferError(OSError):
    """A remote file could not be read."""


class FinalError(TransferError):
    """A remote file cannot be read, however often it is tried."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of an object store or a web server.

    Attributes:
        address: With its scheme.
        size: In bytes.
        version: Text that differs if the content does, from size, time and tag.
        md5: Of the content in base64, or None if the server does not say.
    """

    address: str
    size: int
    version: str
    md5: str | None = None

    @property
    def shown(self) -> str:
        """The address without passwords and signatures."""
        return masked_text(self.address)

    @property
    def name(self) -> str:
        """The last part of the address, without a query."""
        name = self.address.partition("://")[2].partition("?")[0].rstrip("/").rpartition("/")[2]
        return name or "file"


def is_remote(path: str) -> bool:
    """Whether a path has a scheme other than `file`."""
    return "://" in path and not path.startswith("file://")


def matching(address: str, deadline: Deadline) -> list[str]:
    """Returns the files that an address or a pattern means, sorted by name.

    Raises:
        TransferError: If the storage cannot be read.
        ValueError: If none matches.
    """
    scheme = _scheme(address)
    if scheme in ("http", "https") or not any(sign in address for sign in "*?["):
        return [address]

    def find() -> list[str]:
        if scheme in _BY_TENSORFLOW:
            return list(tf.io.gfile.glob(address))
        system = _file_system(address)
        return [f"{scheme}://{path.lstrip('/')}" for path in system.glob(address)]

    found = sorted(_with_retries(find, f"list {masked_text(address)}", deadline))
    if not found:
        raise ValueError(
            f"`files` must match at least one file. Received: {address!r}, which matches none. "
            "Check the address."
        )
    return found


def described(address: str, deadline: Deadline) -> RemoteFile:
    """Returns what the storage says of a file.

    Raises:
        TransferError: If it cannot be read, or does not say how large it is.
    """

    def describe() -> RemoteFile:
        if _scheme(address) in _BY_TENSORFLOW:
            found = tf.io.gfile.stat(address)
            if found.is_directory:
                raise IsADirectoryError(f"{address} is a folder")
            return RemoteFile(address, found.length, f"{found.length} {found.mtime_nsec}")
        info = _file_system(address).info(address)
        if info.get("type") == "directory":
            raise IsADirectoryError(f"{address} is a folder")
        tags = {tag: str(info[tag]) for tag in _TAGS if info.get(tag)}
        size = info.get("size")
        if size is None:
            raise FinalError(
                f"{masked_text(address)} has no known size, so that nothing shows whether a copy "
                "is whole. Download it, and pass the local path."
            )
        return RemoteFile(address, int(size), f"{size} {tags}", info.get("Content-MD5"))

    return _with_retries(describe, f"read {masked_text(address)}", deadline)


def download(file: RemoteFile, path: Path, deadline: Deadline) -> str:
    """Downloads a file. Returns the SHA-256 of its content.

    It is tried again until the deadline if it breaks off, differs in size, or changes meanwhile.

    Args:
        file: As the storage described it.
        path: Where to write it. Replaced if it exists.
        deadline: Of all tries.

    Raises:
        TransferError: If it cannot be downloaded.
    """

    def once() -> str:
        if _scheme(file.address) in _BY_TENSORFLOW:
            _download_by_tensorflow(file, path, deadline)
        else:
            _download_by_fsspec(file, path, deadline)
        size = path.stat().st_size
        if size != file.size:
            raise TransferError(f"{size:,} bytes came, not {file.size:,}")
        sha256, md5 = _digests(path)
        if file.md5 is not None and md5 != file.md5:
            raise TransferError(f"the MD5 of what came is {md5}, not {file.md5}")
        if described(file.address, deadline) != file:
            raise FinalError(
                f"{file.shown} changed while it was downloaded. Start again when it is complete."
            )
        return sha256

    return _with_retries(once, f"download {file.shown}", deadline)


class _OverdueError(TransferError):
    """The deadline is over in the middle of a transfer."""


def _download_by_tensorflow(file: RemoteFile, path: Path, deadline: Deadline) -> None:
    with tf.io.gfile.GFile(file.address, "rb") as stream, path.open("wb") as target:
        while chunk := stream.read(_CHUNK_BYTES):
            target.write(chunk)
            _require_time(deadline)


def _download_by_fsspec(file: RemoteFile, path: Path, deadline: Deadline) -> None:
    from fsspec.callbacks import Callback

    class Watch(Callback):
        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            _require_time(deadline)

    _file_system(file.address).get_file(file.address, str(path), callback=Watch())


def _require_time(deadline: Deadline) -> None:
    if deadline.is_over():
        raise _OverdueError("the time is over")


def _file_system(address: str) -> Any:
    """Returns the file system of fsspec for an address.

    Raises:
        ImportError: If it is not installed.
    """
    scheme = _scheme(address)
    try:
        import fsspec

        options: dict[str, Any] = {}
        if scheme in ("http", "https"):
            import aiohttp

            silence = aiohttp.ClientTimeout(
                total=None, sock_connect=_SILENCE_SECONDS, sock_read=_SILENCE_SECONDS
            )
            options["client_kwargs"] = {"timeout": silence}
        # Listings that fsspec keeps would hide that a file changed.
        return fsspec.filesystem(scheme, use_listings_cache=False, **options)
    except ImportError as error:
        package = "s3fs" if scheme in ("s3", "s3a") else "tfscale[data]"
        raise ImportError(
            f"{scheme}:// needs {error.name or 'another package'}, which is not installed. Install "
            f"it with: pip install '{package}'"
        ) from error
    except ValueError as error:
        raise ValueError(
            "`files` must be local paths or addresses of a known scheme, such as gs, s3, http or "
            f"https. Received: {address!r} ({error}). Check the scheme."
        ) from error


def _scheme(address: str) -> str:
    return address.partition("://")[0]


def _with_retries(work: Callable[[], Result], what: str, deadline: Deadline) -> Result:
    """Does work until it succeeds, cannot succeed, or the deadline is over."""
    for attempt in itertools.count():
        try:
            return work()
        except (ImportError, ValueError, FinalError):
            raise
        except Exception as error:
            problem = _text(error)
            if _is_final(error):
                raise TransferError(f"Could not {what}: {problem}.") from error
            pause = min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
            pause *= random.uniform(0.5, 1.0)
            if deadline.left() <= pause:
                raise TransferError(
                    f"Could not {what} in {deadline.seconds:.0f} s and {attempt + 1} "
                    f"tries: {problem}. Check the server and the network, or pass a longer "
                    "deadline_seconds."
                ) from error
        announce(f"could not {what}: {problem}; next try in {pause:.1f} s")
        time.sleep(pause)
    raise AssertionError


def _is_final(error: BaseException) -> bool:
    """Whether another try cannot help."""
    if isinstance(error, _GONE_FROM_TENSORFLOW):
        return True
    cause = error.__cause__
    status = getattr(error, "status", getattr(cause, "status", None))
    if isinstance(status, int):
        return 400 <= status < 500 and status not in (408, 425, 429)
    if isinstance(error, FileNotFoundError):
        # fsspec reports every failure of a web server as a missing file.
        return not isinstance(cause, TimeoutError) and "aiohttp" not in type(cause).__module__
    is_local = isinstance(error, OSError) and error.errno in _LOCAL
    return is_local or isinstance(error, (PermissionError, IsADirectoryError))


def _text(error: BaseException) -> str:
    origin = error.__cause__ if isinstance(error, FileNotFoundError) else None
    shown = origin or error
    text = str(getattr(shown, "message", None) or shown).partition("\n")[0].rstrip(".")
    text = masked_text(text)
    if status := getattr(shown, "status", None):
        return f"HTTP status {status}, {text}"
    return f"{type(shown).__name__}: {text}" if text else type(shown).__name__


def _digests(path: Path) -> tuple[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
    return sha256.hexdigest(), base64.b64encode(md5.digest()).decode()
