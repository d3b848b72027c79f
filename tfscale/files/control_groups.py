"""The control groups (containers) of this process, of version 1 or 2, and what they limit.

Limits of all groups above the process's own count too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def groups_of(controller: str, root: Path = Path("/")) -> Iterator[tuple[Path, int]]:
    """Yields the folders of this process's groups, from its own to the topmost, and their version.

    Args:
        controller: What they limit: "memory", "cpu" or "pids".
        root: Folder with `proc` and `sys`.
    """
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, version = root / "sys/fs/cgroup", 2
        elif controller in controllers.split(","):
            base, version = root / "sys/fs/cgroup" / controller, 1
        else:
            continue
        group = base / path.strip("/")
        # In a container the path may be that of the host, and the mount is the group itself.
        groups = [group, *group.parents] if group.exists() else [base]
        yield from ((each, version) for each in groups if each.is_relative_to(base))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Returns the processors whose time this process may use, or None without a limit.

    Args:
        root: Folder with `proc` and `sys`.
    """
    quotas = []
    for group, version in groups_of("cpu", root):
        if version == 2:
            quota, _, period = text_of(group / "cpu.max").strip().partition(" ")
        else:
            quota = text_of(group / "cpu.cfs_quota_us").strip()
            period = text_of(group / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit():  # neither "max" nor -1
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def processes_left(root: Path = Path("/")) -> int | None:
    """Returns how many more processes and threads may start, or None without a limit.

    Args:
        root: Folder with `proc` and `sys`.
    """
    left = []
    for group, _ in groups_of("pids", root):
        most = text_of(group / "pids.max").strip()
        running = text_of(group / "pids.current").strip()
        if most.isdigit() and running.isdigit():
            left.append(max(0, int(most) - int(running)))
    return min(left, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Returns the smallest limit of memory, in bytes, or None without a limit.

    Args:
        root: Folder with `proc` and `sys`.
    """
    names = {1: "memory.limit_in_bytes", 2: "memory.max"}
    found = [text_of(group / names[v]).strip() for group, v in groups_of("memory", root)]
    # Version 1 writes "no limit" as the largest number of pages.
    limits = [int(each) for each in found if each.isdigit() and int(each) < 1 << 60]
    return min(limits, default=None)


def text_of(path: Path) -> str:
    """Returns the text of a file of the kernel, or "" if it cannot be read."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
