"""Brings remote files to a local folder.

files = tfscale.data.local_copies("s3://bucket/train-*.tfrecord", "/local/copies")
train = tfscale.data.record_files(files, features={...})
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from strategies.extension import Deadline, announce, whole_number
from tfscale.data.remote.copy_folder import CopyFolder, key_of
from tfscale.data.remote.protocols import RemoteFile, described, download, is_remote, matching
from tfscale.data.work_lock import WorkLock, do_once
from tfscale.files.output_files import reason
from tfscale.files.room import megabytes

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

_THREADS = 4
_SILENCE_SECONDS = 15.0

AnyFiles = TypeVar("AnyFiles", bound=Files)
Item = TypeVar("Item")
Result = TypeVar("Result")


def local_copies(
    files: Files,
    where: str | os.PathLike[str] | None = None,
    *,
    budget_bytes: int | None = None,
    deadline_seconds: float = 600.0,
) -> list[str]:
    """Copies remote files to a local folder, unless they are there, and returns the copies.

    Sources of files do this for addresses; call it for another folder or a budget. Whole files are
    copied, because random access over a network is slow. `gs://` is read through TensorFlow;
    `s3://` (with the package s3fs), `http://`, `https://`, `memory://` and others through fsspec.

    A copy appears when it is complete: its size, and its MD5 if the server says it, are those of
    the file, which must not have changed meanwhile. A transfer that breaks off is tried again until
    the deadline. At every call the storage is asked for the size, time and tag of each file, and a
    file that changed is copied again. Processes of one host, or of hosts that share the folder,
    copy each file once; if one dies, another takes over.

    When the budget is used up, the copies that were not used for longest are removed, but never one
    that a living process uses (on the same host), and nothing that is not such a copy.

    Args:
        files: Addresses, patterns such as "gs://bucket/train-*.tfrecord" (not of a web server), or
            local paths, which are returned unchanged.
        where: The folder, local. None: `tfscale/remote` in `$XDG_CACHE_HOME` or `~/.cache`.
        budget_bytes: Most bytes of all copies in the folder. None: 90% of what is free.
        deadline_seconds: Longest time to describe and copy one file, and to wait for a process that
            copies it. Positive.

    Returns:
        Local paths, in the order of `files`; a pattern's files are sorted by name.

    Raises:
        ValueError: If a pattern matches no file, the scheme is unknown, or the files do not fit.
        OSError: If a file cannot be read, or the folder not be written.
        ImportError: If the package for the scheme is not installed.
        TimeoutError: If another process has not copied a file by the deadline.

    Example:
        >>> import fsspec, tempfile
        >>> with fsspec.open("memory://words.txt", "wb") as file:
        ...     _ = file.write(b"one two")
        >>> (path,) = local_copies("memory://words.txt", tempfile.mkdtemp())
        >>> open(path).read()
        'one two'
    """
    if budget_bytes is not None:
        whole_number("budget_bytes", budget_bytes, cure="Pass bytes, such as 10 * 2**30.")
    if not deadline_seconds > 0:
        raise ValueError(
            "`deadline_seconds` must be positive. Received: "
            f"deadline_seconds={deadline_seconds!r}. Pass seconds, for instance 600."
        )
    if where is not None and is_remote(os.fspath(where)):
        raise ValueError(f"`where` must be a local folder. Received: where={where!r}.")
    folder = default_folder() if where is None else Path(where)
    entries = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    paths = [os.fspath(entry) for entry in entries]
    names = [
        name
        for path in paths
        for name in (matching(path, Deadline(deadline_seconds)) if is_remote(path) else [path])
    ]
    remote = [name for name in names if is_remote(name)]
    if not remote:
        return names
    found = _each(lambda name: described(name, Deadline(deadline_seconds)), remote)
    try:
        copies = _folder(folder.absolute())
        copies.lease(found, budget_bytes)
        missing = [file for file in found if copies.copy_of(file) is None]
        if missing:
            size = megabytes(sum(file.size for file in missing))
            announce(f"copies {len(missing)} of {len(found)} remote files to {folder}, {size}")
        local = _each(lambda file: _copied(copies, file, deadline_seconds), found)
    except OSError as error:
        if error.errno is None or isinstance(error, TimeoutError):
            raise
        raise OSError(
            error.errno,
            f"Remote files could not be copied to {folder}: {reason(error)}. Make room there, or "
            "pass another folder to tfscale.data.local_copies",
        ) from error
    by_name = dict(zip(remote, local, strict=True))
    return [str(by_name.get(name, name)) for name in names]


def local_files(files: AnyFiles) -> AnyFiles | list[str]:
    """Returns files with copies in place of remote ones; without remote ones, `files` itself."""
    entries = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    has_remote = any(is_remote(os.fspath(entry)) for entry in entries)
    return local_copies(entries) if has_remote else files


def _copied(copies: CopyFolder, file: RemoteFile, deadline_seconds: float) -> Path:
    def work() -> None:
        if copies.copy_of(file) is not None:
            return
        partial = copies.new_partial(file)
        try:
            sha256 = download(file, partial / file.name, Deadline(deadline_seconds))
            copies.store(file, partial, sha256)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    do_once(
        WorkLock(str(copies.folder / key_of(file)), silence_seconds=_SILENCE_SECONDS),
        is_done=lambda: copies.copy_of(file) is not None,
        work=work,
        what=f"the copy of {file.shown} in {copies.folder}",
        deadline_seconds=deadline_seconds,
    )
    found = copies.copy_of(file)
    if found is None:
        raise OSError(f"The copy of {file.shown} was removed while it was opened. Start again.")
    return found


def _each(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    """Applies a function in several threads. After an error, what has not begun is left out."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        results = [threads.submit(function, item) for item in items]
        try:
            return [result.result() for result in results]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


@functools.cache
def _folder(folder: Path) -> CopyFolder:
    """The view of this process, which keeps its lease."""
    return CopyFolder(folder)


def default_folder() -> Path:
    """Returns the folder of copies if none is chosen."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tfscale" / "remote"
