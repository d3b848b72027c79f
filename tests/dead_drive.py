"""A mounted drive whose server has ended, as in an outage of a network file system."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_DETACH = 2  # MNT_DETACH
_KIND = 0o170000


def dead_drive_missing() -> str:
    """Returns why no such drive can be mounted here, or "" if it can."""
    if sys.platform != "linux" or os.geteuid() != 0 or not Path("/dev/fuse").exists():
        return "needs root and /dev/fuse, to mount a drive"
    return ""


@contextlib.contextmanager
def dead_drive(at: Path, server: int | None = None) -> Iterator[None]:
    """Mounts it over a file or a folder: every call there fails with ENOTCONN until the end.

    Args:
        at: An existing file or folder.
        server: An open /dev/fuse whose owner does not answer: calls wait until it is closed.

    Raises:
        OSError: If it cannot be mounted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR) if server is None else server
    options = f"fd={device},rootmode={at.stat().st_mode & _KIND:o},user_id=0,group_id=0"
    failed = libc.mount(b"dead", bytes(at), b"fuse", 0, options.encode())
    if server is None:
        os.close(device)  # the server has ended
    if failed:
        raise OSError(ctypes.get_errno(), "no drive can be mounted", str(at))
    try:
        yield
    finally:
        libc.umount2(bytes(at), _DETACH)
