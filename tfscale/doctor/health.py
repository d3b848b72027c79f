"""A few seconds of work before a job: products of matrices, copies in memory, a disk.

Figures are comparable between the workers of one job, which ran at the same time in the same way.
They are no benchmark: for those see `tfscale bench`.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strategies.extension import Deadline
from tfscale.files.room import free_disk

MATMUL = "matmul_gflops"
MEMORY = "memory_gb_per_s"
DISK_WRITE, DISK_READ = "disk_write_mb_per_s", "disk_read_mb_per_s"
ALL_REDUCE = "all_reduce_ms"
UNITS = {
    MATMUL: ("matmul", "GFLOP/s"),
    MEMORY: ("copying memory", "GB/s"),
    DISK_WRITE: ("writing to disk", "MB/s"),
    DISK_READ: ("reading from disk", "MB/s"),
    ALL_REDUCE: ("all-reduce of 1 MiB", "ms"),
}
"""What each figure is called in reports, and its unit, in the order of the report."""

_PART_SECONDS = 0.7
_DISK_SECONDS = 2.0
_DISK_BYTES, _BLOCK_BYTES = 128 << 20, 4 << 20
_KEEP_FREE = 4
"""The file takes at most this part of what is free."""
_COPY_BYTES = 64 << 20
_WIDTHS = {"CPU": 1024, "GPU": 8192}


def matmul_gflops(say: Callable[[str], None]) -> dict[str, float]:
    """Returns how many 10^9 operations a second each device computes, by its name.

    A product of float32 matrices of n rows and columns has 2 n^3 operations. GPUs may compute in
    TensorFloat-32, as in training.

    Args:
        say: Called with a line of progress for each device.
    """
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # too late: it is in use
            tf.config.experimental.set_memory_growth(gpu, True)  # leave room for the all-reduce
    gpus = tf.config.list_logical_devices("GPU")
    found = {}
    for device in gpus or tf.config.list_logical_devices("CPU")[:1]:
        name = device.name.removeprefix("/device:")
        say(f"matmul on {name}")
        found[name] = _gflops_of(device)
    return found


def memory_gb_per_s() -> float:
    """Returns how many 10^9 bytes a second one thread reads and writes in memory."""
    import numpy as np

    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.zeros_like(source)
    return 2 * _COPY_BYTES * _calls_per_second(lambda: np.copyto(target, source)) / 1e9


def disk_mb_per_s(folder: Path) -> tuple[float, float]:
    """Writes a file, flushed to the disk, and reads it again.

    It writes at most 128 MiB, for at most 2 s, and asks the kernel to forget the file before it is
    read; what a disk or a server caches itself is not forgotten.

    Args:
        folder: Where.

    Returns:
        10^6 bytes a second, written and read.

    Raises:
        OSError: If the file cannot be written or read.
    """
    path = folder / f".tfscale-doctor-{uuid.uuid4().hex}"
    block = os.urandom(_BLOCK_BYTES)  # some disks compress
    most = _DISK_BYTES
    if hasattr(os, "statvfs"):
        most = min(most, free_disk(folder) // _KEEP_FREE)
    try:
        deadline = Deadline(_DISK_SECONDS)
        written = 0
        with path.open("xb", buffering=0) as file:
            while written == 0 or (written < most and not deadline.is_over()):
                written += file.write(block)
                os.fsync(file.fileno())
            write = written / deadline.spent()
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        deadline = Deadline(_DISK_SECONDS)
        read = 0
        with path.open("rb", buffering=0) as file:
            while not (read and deadline.is_over()) and (part := file.read(_BLOCK_BYTES)):
                read += len(part)
        return write / 1e6, read / deadline.spent() / 1e6
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _gflops_of(device: Any) -> float:
    import tensorflow as tf

    width = _WIDTHS.get(device.device_type, 1024)
    with tf.device(device.name):
        matrix = tf.fill([width, width], 1.0 / width)

        @tf.function(autograph=False)
        def chain(matrix: tf.Tensor) -> tf.Tensor:
            # Its trace is copied to the host, which waits for the device.
            return tf.linalg.trace(tf.matmul(matrix, tf.matmul(matrix, matrix)))

        float(chain(matrix))
        return 2 * 2 * width**3 * _calls_per_second(lambda: float(chain(matrix))) / 1e9


def _calls_per_second(act: Callable[[], object]) -> float:
    calls, begin = 0, time.perf_counter()
    while not calls or time.perf_counter() - begin < _PART_SECONDS:
        act()
        calls += 1
    return calls / (time.perf_counter() - begin)
