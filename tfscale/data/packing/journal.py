"""What an unfinished pack has written so far, so that it can be continued.

`.packing` in the folder has a line for the pack, and one for each shard that is complete. It is
removed when the manifest is written. A line that was cut by a kill does not count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfscale.data.packing.shard_files import ShardFormat, digest_of, not_written
from tfscale.files import reason, whole_files
from tfscale.records.index import RecordFileError, index_path
from tfscale.records.manifest import (
    NAME,
    Manifest,
    ManifestError,
    Shard,
    read_manifest,
    shard_fingerprint,
)

_NAME = ".packing"
_PARTIAL = re.compile(r"\..*\.partial")


@contextlib.contextmanager
def folder_for_pack(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Creates the folder of a set, and keeps other packs out of it.

    Args:
        folder: The folder. Local.

    Raises:
        ValueError: If it is not local.
        OSError: If it cannot be created, or another process packs into it.
    """
    path = Path(folder)
    if "://" in os.fspath(folder):
        raise ValueError(
            f"`folder` must be a local folder. Received: folder={os.fspath(folder)!r}. Pack into a "
            "local one and copy it, for instance with `gsutil -m cp -r`."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise not_written(path, reason(error)) from error
    try:
        _lock(path, descriptor)
        yield path
    finally:
        os.close(descriptor)  # which ends the lock; so does a kill


def _lock(path: Path, descriptor: int) -> None:
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(
            f"Another process packs into {path}. Wait until it ends, or choose another folder."
        ) from error
    except OSError:  # a file system without locks
        return


class Journal:
    """The journal of a pack in a folder that `folder_for_pack` keeps.

    Attributes:
        complete: The manifest of the set, if it is complete already.
    """

    def __init__(self, folder: Path, key: str, shard_format: ShardFormat) -> None:
        """Reads what an earlier pack has left, and removes what it has not completed.

        Args:
            folder: The folder.
            key: See `Manifest`. Without one, unfinished work is not continued.
            shard_format: How shards are written.

        Raises:
            ValueError: If the folder contains something else than a pack with this key.
            OSError: If it cannot be read or written.
        """
        self._folder, self._path, self._format = folder, folder / _NAME, shard_format
        self._lock = threading.Lock()
        self._lines: list[dict[str, Any]] = []
        self.complete: Manifest | None = None
        names = sorted(os.listdir(folder))  # noqa: PTH208
        if NAME in names:
            self._read_complete(key)
        elif _NAME in names:
            self._read_unfinished(key)
        elif others := [name for name in names if not _PARTIAL.fullmatch(name)]:
            raise _occupied(folder, f"which contains {others[0]}")
        for name in names:
            if _PARTIAL.fullmatch(name):
                (folder / name).unlink(missing_ok=True)
        if self.complete is None and not self._lines:
            self._write({"key": key})

    def finished(self, file: str, first: int, examples: int | None) -> tuple[Shard, str] | None:
        """Returns a shard that is complete and undamaged, and the hash of its last record.

        Args:
            file: Its name.
            first: Index of its first example.
            examples: Number of its examples, or None for any.

        Returns:
            None if there is no such shard.
        """
        for line in self._lines[1:]:
            shard, last = Shard(**line["shard"]), str(line["last"])
            is_wanted = (shard.file, shard.first) == (file, first)
            if is_wanted and examples in (None, shard.examples):
                return (shard, last) if self._is_whole(shard) else None
        return None

    def add(self, shard: Shard, last: str) -> None:
        """Notes that a shard is complete. Several threads may call it.

        Args:
            shard: The shard.
            last: Hash of its last record.

        Raises:
            OSError: If it cannot be written.
        """
        self._write({"shard": dataclasses.asdict(shard), "last": last})

    def close(self) -> None:
        """Removes the journal of a set that has its manifest."""
        self._path.unlink(missing_ok=True)

    def _read_complete(self, key: str) -> None:
        try:
            manifest = read_manifest(self._folder)
        except ManifestError as error:
            raise _occupied(self._folder, str(error).rstrip(".")) from error
        if not key or manifest.key != key:
            raise _occupied(
                self._folder,
                f"which contains {manifest.num_examples:,} examples of {manifest.source}, packed "
                "from another source, or with other functions or settings, or with a function that "
                "has no stable hash (pass version=)",
            )
        for shard in manifest.shards:
            path = self._folder / shard.file
            size = path.stat().st_size if path.exists() else None
            if size != shard.bytes:
                raise ValueError(
                    f"`folder` contains this set, but {path} has {size} of {shard.bytes} bytes. "
                    "Run `tfscale data inspect --repair`, or remove the folder and pack again."
                )
        self.complete = manifest
        self.close()

    def _read_unfinished(self, key: str) -> None:
        for line in self._path.read_bytes().split(b"\n")[:-1]:
            try:
                self._lines.append(json.loads(line))
            except ValueError:  # cut by a kill, and continued by the next line
                continue
        if not self._lines or "key" not in self._lines[0]:
            self._lines = []
        elif len(self._lines) == 1 or not (key or self._lines[0]["key"]):
            for entry in self._lines[1:]:
                path = str(self._folder / entry["shard"]["file"])
                Path(path).unlink(missing_ok=True)
                index_path(path).unlink(missing_ok=True)
            self._lines = []
        elif self._lines[0]["key"] != key:
            raise _occupied(
                self._folder,
                "which contains an unfinished pack of another source, or with other functions or "
                "settings",
            )
        if not self._lines:
            self._path.unlink()

    def _is_whole(self, shard: Shard) -> bool:
        path = self._folder / shard.file
        try:
            if (path.stat().st_size, digest_of(path)) != (shard.bytes, shard.sha256):
                return False
            found = shard_fingerprint(str(path), self._format.container, self._format.compression)
        except (OSError, RecordFileError):
            return False
        return found == shard.fingerprint

    def _write(self, line: dict[str, Any]) -> None:
        content = json.dumps(line).encode() + b"\n"
        with self._lock:
            try:
                if not self._lines:
                    with whole_files(self._path) as (file,):
                        file.write(content)
                else:
                    with self._path.open("ab") as file:
                        file.write(content if not _is_cut(self._path) else b"\n" + content)
                        file.flush()
                        os.fsync(file.fileno())
            except OSError as error:
                raise not_written(self._path, reason(error)) from error
            self._lines.append(line)


def _is_cut(path: Path) -> bool:
    """Returns whether the last line of a file was cut."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) != b"\n"


def _occupied(folder: Path, what: str) -> ValueError:
    return ValueError(
        "`folder` must be new, empty, or contain this pack, complete or not. Received: "
        f"{os.fspath(folder)!r}, {what}. Choose another folder, or remove this one."
    )
