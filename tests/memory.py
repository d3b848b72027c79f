"""The memory of this process, and its slope over samples. Linux only."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Samples = Sequence[tuple[float, float]]
"""Pairs of a number of steps and bytes."""


def resident_bytes() -> int:
    """Returns the resident memory of this process (RSS) in bytes, without pages of files.

    The kernel frees those when it likes: 20 MB at a time for TensorFlow's library.
    """
    _, resident, shared, *_ = Path("/proc/self/statm").read_text("ascii").split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def trim() -> None:
    """Returns freed memory of all arenas of glibc to the system."""
    ctypes.CDLL(None).malloc_trim(0)


def slope(segments: Sequence[Samples]) -> float:
    """Returns the bytes per step by which memory grows: the least-squares line through samples.

    Args:
        segments: Samples of each start of a process. The starts have a common slope and separate
            intercepts. A segment of fewer than two samples does not count.

    Returns:
        Bytes per step; NaN if no segment has two samples at different steps.
    """
    products = squares = 0.0
    for samples in segments:
        if len(samples) > 1:
            steps, bytes_ = np.array(samples, np.float64).T
            steps -= steps.mean()
            products += float(steps @ bytes_)
            squares += float(steps @ steps)
    return products / squares if squares else np.nan
