"""Which process listens on a port of this host; Linux."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tfscale.files.control_groups import text_of

_LISTENS = "0A"
_LONGEST_COMMAND = 100


def holder_of(port: int, root: Path = Path("/")) -> str:
    """Returns "process 123 (python train.py)", or "another process" if it cannot be seen.

    Args:
        port: A TCP port.
        root: Folder with `proc`.
    """
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, root)}
    for folder in sorted(root.glob("proc/[0-9]*")) if sockets else ():
        if sockets.intersection(_open_files(folder / "fd")):
            words = text_of(folder / "cmdline").split("\0")
            command = " ".join(filter(None, words))[:_LONGEST_COMMAND]
            own = ", this one" if folder.name == str(os.getpid()) else ""
            return f"process {folder.name}{own} ({command or 'without a command line'})"
    return "another process, which this user may not see"


def _open_files(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # of another user, or ended
        for link in folder.iterdir():
            with contextlib.suppress(OSError):  # closed
                yield str(link.readlink())


def _inodes(port: int, root: Path) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        for line in text_of(root / "proc/net" / table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENS:
                _, _, number = fields[1].rpartition(":")
                if int(number, 16) == port:
                    found.add(fields[9])
    return found
