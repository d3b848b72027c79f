"""How much memory and disk is free for a cache or for copies of files, and what a process has.

Memory is that of the system and of every control group (a container) that the process is in; what
the kernel uses to cache files counts as free.
"""

from __future__ import annotations

import os
from pathlib import Path

from tfscale.files.control_groups import groups_of, text_of

# The part of what is free that a cache may take without a budget: other processes need some, too.
SHARE = 0.9
_IN_MEMORY = ("tmpfs", "ramfs")


def free_memory(root: Path = Path("/")) -> int | None:
    """Returns the bytes of memory that are free, or None if the system does not say.

    Args:
        root: Folder with `proc` and `sys`.
    """
    found = [_free_of_system(root), *_free_of_groups(root)]
    known = [size for size in found if size is not None]
    return min(known) if known else None


def free_disk(folder: Path) -> int:
    """Returns the bytes that are free in a folder for this user."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def is_in_memory(folder: Path, root: Path = Path("/")) -> bool:
    """Whether the files of a folder are in memory, such as those in /dev/shm."""
    return file_system_of(folder, root) in _IN_MEMORY


def file_system_of(folder: Path, root: Path = Path("/")) -> str:
    """Returns the kind of the file system of a folder, such as "ext4", or "" if it is unknown.

    Args:
        folder: The folder.
        root: Folder with `proc`.
    """
    best, kind = "", ""
    path = os.path.realpath(folder)
    for line in text_of(root / "proc/self/mounts").splitlines():
        _, point, found_kind, *_ = line.split(" ")
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best):
            best, kind = point, found_kind
    return kind


def megabytes(size: float) -> str:
    """Returns a size for people.

    Example:
        >>> megabytes(2_500_000), megabytes(300)
        ('2.5 MB', '300 bytes')
    """
    if size >= 1e9:
        return f"{size / 1e9:,.2f} GB"
    if size >= 1e6:
        return f"{size / 1e6:.1f} MB"
    return f"{int(size):,} bytes"


def resident_memory(pid: int | None = None) -> int | None:
    """Returns the bytes of the host that a process has now, or None where that is not known.

    Args:
        pid: The process; None for this one.

    Example:
        >>> resident_memory() != 0
        True
    """
    fields = text_of(Path("/proc", "self" if pid is None else str(pid), "statm")).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else None


def peak_memory(pid: int | None = None, proc: Path = Path("/proc")) -> int | None:
    """Returns the most bytes of the host that a process has had, or None if it is not known.

    `getrusage` counts what the process had before it executed its program, which it shared with the
    one that has started it.

    Args:
        pid: The process; None for this one.
        proc: The folder of the system's processes.

    Example:
        >>> peak_memory() != 0
        True
    """
    for line in text_of(proc / ("self" if pid is None else str(pid)) / "status").splitlines():
        if line.startswith("VmHWM:"):  # the largest resident set so far
            return int(line.split()[1]) * 1024
    return None


def _free_of_system(root: Path) -> int | None:
    for line in text_of(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _free_of_groups(root: Path) -> list[int | None]:
    """What the limits of the process's control groups and of those above leave."""
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        2: ("memory.max", "memory.current", ""),
    }
    return [_free_of_group(group, *names[version]) for group, version in groups_of("memory", root)]


def _free_of_group(group: Path, limit: str, usage: str, prefix: str) -> int | None:
    most, used = text_of(group / limit).strip(), text_of(group / usage).strip()
    if not most.isdigit() or not used.isdigit():
        return None  # "max", or no such controller
    reclaimable = 0
    for line in text_of(group / "memory.stat").splitlines():
        name, _, size = line.partition(" ")
        if name in (f"{prefix}inactive_file", f"{prefix}active_file"):
            reclaimable += int(size)
    return max(0, int(most) - int(used) + reclaimable)
