"""Python functions that a pipeline calls, and their end before that of the interpreter.

A thread of TensorFlow that waits for Python's lock when the interpreter ends never gets it. The
iterator, deleted after that, waits for the thread, and the program never ends. It happens if an
error in the input ends a program while other batches are read ahead, and with an iterator that is
kept. TensorFlow checks for the end of the interpreter only before the thread waits,
https://github.com/tensorflow/tensorflow/pull/21319. So at the end of the program further calls
fail at once, and the interpreter goes on when none is left.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_LOOK_SECONDS = 0.02
_QUIET_LOOKS = 5
_BUSY_SECONDS = 2.0
"""Most time for threads that could run but do not, because others have the processors."""
_DEADLINE_SECONDS = 10.0


class _Calls:
    """The calls of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0
        self._running = 0
        self._is_ending = False
        self._stops: list[Callable[[], Any]] = []

    def call(self, function: Callable[..., Any], *values: np.ndarray) -> Any:
        """Calls `function`, unless the program ends."""
        with self._lock:
            self._begun += 1
            if self._is_ending:
                raise RuntimeError("The program ends, so no more examples are read.")
            self._running += 1
        try:
            return function(*values)
        finally:
            with self._lock:
                self._running -= 1

    def stop_by(self, stop: Callable[[], Any]) -> None:
        """Calls `stop` at the end of the program, so that calls that wait for it return."""
        self._stops.append(stop)

    def end(self) -> None:
        """Waits until no call runs and none has begun for a moment.

        A thread that waits for Python's lock gets it in each of the sleeps, if the system runs it.
        """
        self._is_ending = True
        for stop in self._stops:
            stop()
        began = time.monotonic()
        quiet = 0 if self._begun else _QUIET_LOOKS  # nothing was ever called
        while quiet < _QUIET_LOOKS:
            if time.monotonic() - began > _DEADLINE_SECONDS:
                print(
                    f"tfscale: the input has not stopped within {_DEADLINE_SECONDS:g} s after the "
                    "end of the program, which may wait for it. Find what its Python waits for.",
                    file=sys.stderr,
                )
                return
            seen = self._begun
            time.sleep(_LOOK_SECONDS)
            is_busy = time.monotonic() - began < _BUSY_SECONDS and _others_could_run()
            is_quiet = not self._running and seen == self._begun and not is_busy
            quiet = quiet + 1 if is_quiet else 0

    def forget(self) -> None:
        """In a forked process: the threads that were calling are not there."""
        self.__init__()  # type: ignore[misc]


def _others_could_run() -> bool:
    """Returns whether another thread runs or waits for a processor; False where it is not known."""
    own = str(threading.get_native_id())
    for path in Path("/proc/self/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state = path.read_bytes().rpartition(b") ")[2][:1]
            if state == b"R" and path.parent.name != own:
                return True
    return False


_CALLS = _Calls()
atexit.register(_CALLS.end)
os.register_at_fork(after_in_child=_CALLS.forget)


# AutoGraph would translate the Python that runs at every batch, and make it slower.
@tf.autograph.experimental.do_not_convert
def call_python(
    function: Callable[..., Any], inputs: Sequence[tf.Tensor], dtypes: Sequence[tf.DType]
) -> list[tf.Tensor]:
    """Calls a Python function in a pipeline, like `tf.numpy_function(stateful=False)`.

    Args:
        function: Takes the NumPy arrays of `inputs` and returns one array for each dtype. Called
            from threads of TensorFlow, not at the end of the program.
        inputs: Tensors.
        dtypes: Of the results.

    Returns:
        A tensor of unknown shape for each dtype; outside of a graph too.
    """

    def call(*values: np.ndarray) -> Any:
        return _CALLS.call(function, *values)

    return list(tf.nest.flatten(tf.numpy_function(call, inputs, dtypes, stateful=False)))


def stop_at_end(stop: Callable[[], Any]) -> None:
    """Calls `stop` when the program ends, before it waits for the calls that run."""
    _CALLS.stop_by(stop)
