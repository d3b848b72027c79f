"""Which files a pattern, a path or a list of them means."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from tfscale.records.index import SUFFIX

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def record_paths(files: Files) -> list[str]:
    """Returns the files that are meant, in reproducible order.

    Args:
        files: A path, a pattern such as "train-*.tfrecord" (sorted by name), or several of them
            (in their order). Indexes and hidden files do not match a pattern.

    Raises:
        ValueError: If there is no such file, a file occurs twice, or a path is not a local file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a-1", "a-0", "b"):
        ...     written = (folder / name).write_bytes(b"")
        >>> [Path(path).name for path in record_paths([folder / "b", folder / "a-*"])]
        ['b', 'a-0', 'a-1']
    """
    entries = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    paths = [path for entry in entries for path in _expanded(os.fspath(entry))]
    if not paths:
        raise ValueError(f"`files` must name at least one file. Received: files={files!r}.")
    if len(set(paths)) != len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(
            f"`files` must name each file once. Received: {twice} twice. Remove one of them."
        )
    return paths


def _expanded(entry: str) -> list[str]:
    if "://" in entry:
        raise ValueError(
            f"`files` must be local files. Received: {entry!r}. Copy them to a local disk, or "
            "mount the bucket."
        )
    path = Path(entry)
    if path.is_dir():
        raise ValueError(
            f"`files` must name files. Received: {entry!r}, a folder. Pass a pattern, such as "
            f"{os.path.join(entry, '*')!r}."  # noqa: PTH118
        )
    if path.exists():
        return [entry]
    found = sorted(glob.glob(entry, recursive=True)) if glob.has_magic(entry) else []  # noqa: PTH207
    found = [name for name in found if not name.endswith(SUFFIX) and Path(name).is_file()]
    if not found:
        brackets = " Brackets are part of a pattern: write '[' as '[[]'." if "[" in entry else ""
        raise ValueError(
            f"`files` must match at least one file. Received: {entry!r}, which matches none. Check "
            f"the path; the current folder is {Path.cwd()}.{brackets}"
        )
    return found
