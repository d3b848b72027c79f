"""SIGUSR2 makes a process of a job write the stacks of its threads, for `tfscale jobs stacks`.

Only a process that a launcher started (TFSCALE_JOB_ID) answers, and only if nothing else handles
the signal. Python's `faulthandler` writes from the signal handler itself, so it also answers while
the main thread hangs in a collective. Needs no TensorFlow.
"""

from __future__ import annotations

import faulthandler
import signal

from strategies.cluster.environments import own_job_id


def answer_stack_requests() -> None:
    """Makes this process write its stacks to standard error at SIGUSR2, if it is part of a job."""
    number = getattr(signal, "SIGUSR2", None)  # not on Windows
    if number is None or own_job_id() is None or signal.getsignal(number) != signal.SIG_DFL:
        return
    # 2: standard error may be a stream without a file, as in notebooks.
    faulthandler.register(number, file=2, all_threads=True)
