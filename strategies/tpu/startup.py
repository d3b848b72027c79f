"""A deadline, and signs of life, while a TPU is looked up and initialised.

TensorFlow says nothing for minutes meanwhile, and may hold Python's lock, so that no thread of this
process runs. A small process beside it keeps the clock; see `tpu_start_watch`.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_WATCH = Path(__file__).with_name("startup_watch.py")


@contextlib.contextmanager
def tpu_start_deadline(tpu: str, seconds: float) -> Iterator[Callable[[str], None]]:
    """Ends this process (SIGKILL) if what is inside has not finished after `seconds`.

    Args:
        tpu: The TPU, for the message.
        seconds: The deadline. Positive.

    Yields:
        A function to be told what comes next, such as "initialising 8 cores".
    """
    # -S and -E: the watch needs the standard library only, and starts the sooner.
    command = [sys.executable, "-S", "-E", str(_WATCH), tpu, str(seconds)]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert watch.stdin is not None
    told = watch.stdin

    def tell(phase: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            told.write(f"{phase}\n".encode())
            told.flush()

    try:
        yield tell
    finally:
        # The end of its input tells the watch to go, also where this process is killed.
        watch.communicate()
