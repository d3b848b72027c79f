"""Work that all processes of pytest-xdist share: the first one does it, the others wait for it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Returns a folder that `make(folder)` filled, once for all processes of this test run.

    If `make` raises, the next process tries again in the same folder.

    Args:
        factory: Of pytest.
        name: Of the folder.
        make: Fills the folder, which exists. It is not called if an earlier call returned.
    """
    is_shared = "PYTEST_XDIST_WORKER" in os.environ
    base = factory.getbasetemp().parent if is_shared else factory.getbasetemp()
    folder, done = base / name, base / f"{name}.done"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an ended process holds no lock
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder
