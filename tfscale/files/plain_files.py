"""Reads a file without waiting for what only looks like one: a FIFO, a device, a folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_plain(path: Path) -> bytes:
    """Returns the content of a plain file.

    Args:
        path: The file, or a link to it. A FIFO or another special file is refused at once.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a plain file.

    Example:
        >>> _ = (folder / "notes.txt").write_text("one")
        >>> read_plain(folder / "notes.txt")
        b'one'
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(
            f"`{path.name}` must be a file. Received: something else, such as a folder or a FIFO. "
            "Remove it, or train again."
        )
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
