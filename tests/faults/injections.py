"""Faults that a worker injects into itself, because they cannot be injected from outside.

Most of the kinds are those of NVIDIA's resiliency extension (github.com/NVIDIA/
nvidia-resiliency-ext, shared_utils/inject_fault.py); its names are given below.
Its SIGKILL, SIGTERM, SIGINT and SIGSTOP are sent from outside. Its two GPU faults are left out.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

REASON = "faults: raised on purpose"

EXCEPTION = "exception"
"""WORKLOAD_EXC: a callback raises."""
INPUT_RAISES = "exception in the input"
"""WORKLOAD_EXC: a function that `tf.data` maps raises."""
HANDLER = "exception in a handler"
"""SIGNAL_EXC: the handler of a signal raises, wherever the main thread is."""
ASYNCHRONOUS = "asynchronous exception"
"""ASYNC_EXC: another thread raises it in the main thread during a step."""
ABORT = "abort"
"""OS_ABORT."""
SEGFAULT = "segmentation fault"
"""SEGFAULT: a thread reads address 0 while the main thread is in a step."""
LOCK = "lock"
"""LOCK_GIL: a thread keeps Python's lock for a long time."""
INPUT_STALLS = "stalled input"
MEMORY_ERROR = "memory error"
"""Python finds no memory, below the limit of the process."""
LARGE_TENSOR = "large tensor"
"""A step makes a tensor that is too large."""
MEMORY_TAKEN = "memory taken"
"""Takes memory until the kernel kills it; the harness sets the limit."""

LOCK_SECONDS = 60
IN_STEP_SECONDS = 0.002
"""From the beginning of a step to a fault in it: a step of two workers takes 5 ms or more."""
STALL_SECONDS = 600.0
_ROOM, _WANTED = 64 << 20, 1 << 30
_PIECE, _PIECES = 64 << 20, 64


class Injected(Exception):
    """The asynchronous exception, which has no message."""


def raise_exception() -> None:
    raise RuntimeError(REASON)


def raise_memory_error() -> None:
    """Leaves this process 64 MiB more than it has, and asks for 1 GiB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * os.sysconf("SC_PAGE_SIZE") + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    bytearray(_WANTED)


def raise_in_main_thread() -> None:
    main = ctypes.c_ulong(threading.main_thread().ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(Injected))


def hold_lock() -> None:
    """Keeps Python's lock: `PyDLL` does not release it during a call."""
    ctypes.PyDLL(None).sleep(LOCK_SECONDS)


def read_nothing() -> None:
    ctypes.string_at(0)


def take_memory() -> None:
    """Takes 4 GiB, unless it is killed before."""
    taken = [b"\1" * _PIECE for _ in range(_PIECES)]
    raise AssertionError(f"The kernel must kill a process that takes {len(taken) * _PIECE} bytes.")


IN_CALLBACK: dict[str, Callable[[], None]] = {
    EXCEPTION: raise_exception,
    MEMORY_ERROR: raise_memory_error,
}
"""Done by the main thread after a step."""
IN_STEP: dict[str, Callable[[], None]] = {
    ASYNCHRONOUS: raise_in_main_thread,
    LOCK: hold_lock,
    SEGFAULT: read_nothing,
    ABORT: os.abort,
    MEMORY_TAKEN: take_memory,
}
"""Done by another thread within a step."""

SIGNAL = signal.SIGUSR1
"""Makes a worker do what it was started for."""


def leave_no_core() -> None:
    """Writes no core dump into the working folder for a crash on purpose."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
