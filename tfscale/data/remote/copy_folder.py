"""A folder of copies of remote files, which several processes share.

FOLDER/<key>/<name>, <key>/source.json     a complete copy, and what it is a copy of
FOLDER/.<key>.<random>.partial/            while a process downloads it
FOLDER/<key>.claim-<random>                while a process downloads it: see `WorkLock`
FOLDER/leases/<random>                     what a process uses; it has the file locked
FOLDER/mutex                               locked while a process looks, evicts or leases

A process leases all its copies before it downloads one, and keeps them until it ends. The kernel
unlocks its lease when it ends in whatever way. A copy is removed only if no living process leases
it, its record is whole, and its folder contains the copy and its index and nothing else: what a
user put there is never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from strategies.extension import announce
from tfscale.data.remote.protocols import RemoteFile
from tfscale.files.room import SHARE, free_disk, megabytes
from tfscale.records.index import SUFFIX

_RECORD = "source.json"
_KEY_DIGITS = 32


@dataclass(frozen=True)
class Copy:
    """A complete copy.

    Attributes:
        key: Name of its folder.
        path: The copy.
        size: Bytes of the copy and its index.
        used: When it was last used, in nanoseconds.
        origin: The address, without secrets.
    """

    key: str
    path: Path
    size: int
    used: int
    origin: str


class CopyFolder:
    """The copies in a folder, as one process sees them."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder if it does not exist.

        Raises:
            OSError: If it cannot be made or written.
        """
        self.folder = folder
        self._leases = folder / "leases"
        self._leases.mkdir(parents=True, exist_ok=True)
        self._lease: IO[str] | None = None
        self._leased: dict[str, int] = {}
        self._pid = 0

    def copy_of(self, file: RemoteFile) -> Path | None:
        """Returns the complete copy of this version of a file, or None."""
        found = self._copy(self.folder / key_of(file))
        return None if found is None or found.path.stat().st_size != file.size else found.path

    def lease(self, files: list[RemoteFile], budget_bytes: int | None) -> None:
        """Marks files as used by this process, and makes room for those that have no copy.

        Args:
            files: The files.
            budget_bytes: Most bytes of all copies in the folder, or None for 90% of the free disk.

        Raises:
            ValueError: If there is no room for them, even without all copies that are not in use.
        """
        sizes = {key_of(file): file.size for file in files}
        with self._mutex():
            in_use = {**self._leased_by_others(), **self._leased, **sizes}
            self._make_room(in_use, sizes, budget_bytes)
            self._write_lease({**self._leased, **sizes})
            for key in sizes:
                with contextlib.suppress(OSError):
                    os.utime(self.folder / key / _RECORD)  # when it was last used

    def store(self, file: RemoteFile, partial: Path, sha256: str) -> None:
        """Turns a folder with a downloaded file into its copy."""
        record: dict[str, Any] = {"origin": file.shown, "version": file.version, "name": file.name}
        record |= {"size": file.size, "sha256": sha256, "key": key_of(file)}
        record["mtime_ns"] = (partial / file.name).stat().st_mtime_ns
        with (partial / file.name).open("rb") as stream:
            os.fsync(stream.fileno())
        with (partial / _RECORD).open("x", encoding="utf-8") as stream:
            stream.write(json.dumps({**record, "checksum": _checksum(record)}))
            stream.flush()
            os.fsync(stream.fileno())
        target = self.folder / key_of(file)
        if self.copy_of(file) is None and target.exists():
            # It was edited, so it is not a copy any more, and is not removed.
            aside = target.with_name(f"{target.name}.changed-{secrets.token_hex(4)}")
            target.rename(aside)
            announce(f"{target} is not the copy that was made; it is kept as {aside}")
        partial.rename(target)

    def new_partial(self, file: RemoteFile) -> Path:
        """Returns an empty folder to download a file to, and removes those of dead processes."""
        key = key_of(file)
        for stale in self.folder.glob(f".{key}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        partial = self.folder / f".{key}.{secrets.token_hex(8)}.partial"
        partial.mkdir()
        return partial

    def _make_room(
        self, in_use: Mapping[str, int], wanted: Mapping[str, int], budget_bytes: int | None
    ) -> None:
        copies = {copy.key: copy for copy in self._copies()}
        missing = {key: size for key, size in in_use.items() if key not in copies}
        taken = sum(copy.size for copy in copies.values())
        coming = sum(missing.values())
        # What other processes are downloading is on the disk in part; it counts in full.
        room = int(free_disk(self.folder) * SHARE) + taken
        limit = room if budget_bytes is None else min(room, budget_bytes)
        if not any(key in missing for key in wanted):
            return
        idle = sorted((copy for key, copy in copies.items() if key not in in_use), key=_last_used)
        excess = taken + coming - limit
        if excess > sum(copy.size for copy in idle):
            needed = taken + coming - sum(copy.size for copy in idle)
            is_budget = limit == budget_bytes
            name = "budget_bytes" if is_budget else "where"
            raise ValueError(
                f"`{name}` must leave {megabytes(needed)} for the remote files that are in use at "
                f"a time, {megabytes(sum(wanted.values()))} of them for this source. Received: "
                f"{'a budget' if is_budget else 'a disk with room'} of {megabytes(limit)} in "
                f"{self.folder}. {'Raise it' if is_budget else 'Free disk space'}, pass another "
                "folder to tfscale.data.local_copies, or read fewer files."
            )
        for copy in idle:
            if excess <= 0:
                return
            announce(f"removes the copy {copy.path} of {copy.origin}, {megabytes(copy.size)}")
            shutil.rmtree(copy.path.parent)
            excess -= copy.size

    def _copies(self) -> list[Copy]:
        paths = [path for path in self.folder.iterdir() if len(path.name) == _KEY_DIGITS]
        return [copy for copy in map(self._copy, sorted(paths)) if copy is not None]

    def _copy(self, folder: Path) -> Copy | None:
        """Returns the copy in a folder, or None if it contains anything else."""
        try:
            record = json.loads((folder / _RECORD).read_text("utf-8"))
            checksum = record.pop("checksum")
            name = record["name"]
            entries = {entry.name: entry.stat() for entry in os.scandir(folder)}
            own = {name, _RECORD}
            is_copy = checksum == _checksum(record) and record["key"] == folder.name
            if not is_copy or not own <= set(entries) <= {*own, f"{name}{SUFFIX}"}:
                return None
            status = entries[name]
            if [status.st_size, status.st_mtime_ns] != [record["size"], record["mtime_ns"]]:
                return None
        except (OSError, ValueError, KeyError, AttributeError):
            return None
        size = sum(status.st_size for entry, status in entries.items() if entry != _RECORD)
        used = entries[_RECORD].st_mtime_ns
        return Copy(folder.name, folder / name, size, used, record["origin"])

    @contextlib.contextmanager
    def _mutex(self) -> Iterator[None]:
        with (self.folder / "mutex").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _leased_by_others(self) -> dict[str, int]:
        """Returns the size of each file that another living process leases."""
        found: dict[str, int] = {}
        for path in self._leases.iterdir():
            if self._lease is not None and path.name == Path(self._lease.name).name:
                continue
            with contextlib.suppress(FileNotFoundError), path.open("r+") as lease:
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found |= json.load(lease)
                else:
                    path.unlink()  # of a process that ended
        return found

    def _write_lease(self, leased: dict[str, int]) -> None:
        if self._lease is None or self._pid != os.getpid():  # a fork shares the lock
            self._lease = (self._leases / secrets.token_hex(8)).open("w")
            self._pid = os.getpid()
            fcntl.flock(self._lease, fcntl.LOCK_EX)
        self._leased = leased
        self._lease.seek(0)
        self._lease.truncate()
        json.dump(leased, self._lease)
        self._lease.flush()


def key_of(file: RemoteFile) -> str:
    """Returns the name of the folder of a copy, which differs if the file changed."""
    text = json.dumps([file.address, file.version])
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _last_used(copy: Copy) -> int:
    return copy.used
