"""The memory of this process, and the line through samples of it. Linux alone tells it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Samples = Sequence[tuple[float, float]]
"""Pairs of a number of steps and bytes."""


def resident_bytes() -> int:
    """Returns the memory that this process holds in RAM (RSS), without pages of files.

    Those the kernel takes back as it likes: of TensorFlow's library they are 20 MB at once.
    """
    _, resident, shared, *_ = Path("/proc/self/statm").read_text("ascii").split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def trim() -> None:
    """Gives memory that was freed back to the system, in all arenas of glibc."""
    ctypes.CDLL(None).malloc_trim(0)


def slope(segments: Sequence[Samples]) -> float:
    """Returns the bytes a step by which memory grows: the least-squares line through samples.

    Args:
        segments: Samples of each start of a process. The starts have one slope, and each a height
            of its own. A segment of fewer than two samples says nothing.

    Returns:
        Bytes a step, NaN where no segment has two samples at different steps.
    """
    together = squares = 0.0
    for samples in segments:
        if len(samples) > 1:
            steps, bytes_ = np.array(samples, np.float64).T
            steps -= steps.mean()
            together += float(steps @ bytes_)
            squares += float(steps @ steps)
    return together / squares if squares else np.nan
