"""Folders that a job writes to: room, inodes, rights, locks and renames.

Each probe runs in a thread with a deadline: a network file system whose server is gone blocks a
process without end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tfscale.doctor.finding import Finding, problem, remark
from tfscale.doctor.threads import within
from tfscale.files.output_files import reason
from tfscale.files.room import file_system_of, is_in_memory, megabytes

LEAST_ROOM, GOOD_ROOM = 100 * 10**6, 2 * 10**9
LEAST_INODES = 1000
PROBE_SECONDS = 10.0
LARGEST_FILE_CLOCK_SECONDS = 5.0

_PROBE_BYTES = 4096
_CURES = {
    errno.ENOSPC: "Delete files there, or choose another folder.",
    errno.EDQUOT: "Your quota is used up: delete files of yours, or choose another folder.",
    errno.EROFS: "The file system is mounted read-only: mount it writable, or choose another.",
    errno.EACCES: "Change its owner or rights, or choose another folder.",
    errno.EPERM: "Change its owner or rights, or choose another folder.",
    errno.ENOENT: "Create it, or correct its name.",
    errno.ENOTDIR: "Name a folder.",
    errno.ESTALE: "Mount the file system again: the server's folder was replaced.",
}
_OF_THE_KERNEL = frozenset(
    ("bpf", "cgroup", "cgroup2", "debugfs", "devpts", "proc", "securityfs", "sysfs", "tracefs")
)
_OTHER_CURE = "Check the file system (dmesg, mount), or choose another folder."
LOCK_CURE = (
    "Mount it with locks (NFS: without nolock and local_lock; Lustre: with flock), or keep caches "
    "and packed records on a local disk."
)

Kind = Literal["named", "temporary", "current"]


def examine_folder(
    folder: Path, kind: Kind = "named", *, seconds: float = PROBE_SECONDS, root: Path = Path("/")
) -> tuple[dict[str, Any], list[Finding]]:
    """Examines one folder by writing a small file and removing it.

    Args:
        folder: The folder.
        kind: "named" by the user, for "temporary" files, or the "current" folder of the process,
            to which a job need not write.
        seconds: Deadline.
        root: Folder with `proc`.

    Returns:
        What was seen, as JSON values, and the findings.
    """
    seen: dict[str, Any] = {"folder": str(folder), "kind": kind}
    name = {"named": "", "temporary": " (temporary files)", "current": " (current folder)"}[kind]
    try:
        free, inodes = within(seconds, lambda: _written(folder))
    except TimeoutError:
        return seen, [
            problem(
                "storage",
                f"{folder}{name} did not answer within {seconds:g} s.",
                "Check the server of this file system and the network to it.",
            )
        ]
    except OSError as error:
        finding = remark if kind == "current" else problem
        why, cure = reason(error), _CURES.get(error.errno or 0, _OTHER_CURE)
        if (system := file_system_of(folder, root)) in _OF_THE_KERNEL:
            why = f"it is of {system}, in which the kernel shows its own data"
            cure = "Choose a folder on a disk."
        if error.errno == errno.ENOSPC and _lacks_inodes(folder):
            cure = "No inodes are left: delete files, however small, or choose another folder."
        if kind == "temporary":
            cure += " TMPDIR chooses this folder."
        return seen, [finding("storage", f"{folder}{name} cannot be written: {why}.", cure)]
    seen |= {
        "free_bytes": free,
        "free_inodes": inodes,
        "in_memory": is_in_memory(folder, root),
    }
    findings = []
    if free < GOOD_ROOM:
        finding = problem if free < LEAST_ROOM and kind != "current" else remark
        cure = "Delete files there, or choose another folder"
        cure += " by TMPDIR." if kind == "temporary" else "."
        findings.append(finding("storage", f"{folder}{name} has {megabytes(free)} left.", cure))
    if inodes is not None and inodes < LEAST_INODES:
        finding = remark if kind == "current" else problem
        findings.append(
            finding(
                "storage",
                f"{folder}{name} has room for {inodes} more files (inodes).",
                "Delete files, however small, or choose another folder.",
            )
        )
    return seen, findings


def temporary_folder() -> Path:
    """Returns the folder that programs try first for temporary files.

    That of `tempfile.gettempdir` is another one if this one cannot be written, and a program in C
    does not look for another.
    """
    for name in ("TMPDIR", "TEMP", "TMP"):  # in the order of `tempfile`
        if os.environ.get(name):
            return Path(os.environ[name]).absolute()
    return Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())


def examine_locks(folder: Path, *, seconds: float = PROBE_SECONDS) -> list[Finding]:
    """Examines what a folder that tasks share must be able to do: lock and rename files.

    Whether a lock also keeps out other hosts is seen with several tasks only: `peers`.

    Args:
        folder: A folder that can be written.
        seconds: Deadline.
    """
    try:
        return within(seconds, lambda: list(_lock_and_rename(folder)))
    except TimeoutError:
        return [
            problem(
                "storage",
                f"A lock or rename in {folder} did not end within {seconds:g} s.",
                "Check the lock service of its server (NFS: rpc.statd and lockd).",
            )
        ]
    except OSError as error:
        cure = _CURES.get(error.errno or 0, _OTHER_CURE)
        return [problem("storage", f"Files in {folder} cannot be renamed: {reason(error)}.", cure)]


def try_lock(descriptor: int, kind: Literal["fcntl", "flock"]) -> bool:
    """Tries to lock an open file, and returns whether no other process has the lock.

    Args:
        descriptor: Of a file open for writing.
        kind: The kind of lock.

    Raises:
        OSError: If the file system has no such locks.
    """
    import fcntl  # POSIX only

    lock = fcntl.lockf if kind == "fcntl" else fcntl.flock
    try:
        lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _written(folder: Path) -> tuple[int, int | None]:
    """Writes and removes a file; returns the bytes and inodes that are free."""
    probe = folder / f".tfscale-doctor-{uuid.uuid4().hex}"
    try:
        with probe.open("xb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    if not hasattr(os, "statvfs"):
        return 1 << 62, None
    room = os.statvfs(folder)
    # File systems without a table of inodes, such as btrfs, count 0 of 0.
    return room.f_bavail * room.f_frsize, room.f_favail if room.f_files else None


def _lacks_inodes(folder: Path) -> bool:
    try:
        room = os.statvfs(folder)
    except OSError:
        return False
    return room.f_files > 0 and room.f_favail == 0


def _lock_and_rename(folder: Path) -> Iterator[Finding]:
    first = folder / f".tfscale-doctor-{uuid.uuid4().hex}"
    second = first.with_suffix(".renamed")
    try:
        second.write_bytes(b"old")
        with first.open("xb") as file:
            file.write(b"new")
            file.flush()
            written = time.time()
            os.fsync(file.fileno())
            for kind in ("fcntl", "flock"):
                try:
                    try_lock(file.fileno(), kind)
                except OSError as error:
                    found = f"{folder} has no {kind} locks: {reason(error)}."
                    yield problem("storage", found, LOCK_CURE)
        ahead = first.stat().st_mtime - written
        if abs(ahead) > LARGEST_FILE_CLOCK_SECONDS:
            yield problem(
                "storage",
                f"The file server of {folder} gives new files a time "
                f"{abs(ahead):.1f} s {'after' if ahead > 0 else 'before'} this host's clock.",
                "Run an NTP client, such as chrony, on both.",
            )
        first.replace(second)
        if second.read_bytes() != b"new" or first.exists():
            yield problem(
                "storage",
                f"{folder} does not replace a file when another is renamed to its name.",
                "Keep checkpoints in a POSIX file system, or in gs:// and the like.",
            )
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
