"""Tries a batch size in a process of its own, which may be killed for its memory or its time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass

from tfscale.files.room import resident_memory
from tfscale.find.batch_probe import Outcome, Request
from tfscale.launch.asked_process import AskedProcess, asked_process

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Probe:
    """A batch size that was tried.

    Attributes:
        batch_size: Examples of a step on all replicas.
        fits: Whether the steps were done within the memory.
        why: Why it does not fit; "" if it does.
        examples_per_second: Of the measured steps; None if it does not fit.
        host_bytes: Most memory of the process on the host; None if it is not known.
        device_bytes: Most memory on one GPU; None without one.
        noise_scale: See `FoundBatchSize`; None if it was not estimated.
    """

    batch_size: int
    fits: bool
    why: str = ""
    examples_per_second: float | None = None
    host_bytes: int | None = None
    device_bytes: int | None = None
    noise_scale: float | None = None


class ProbeFailed(RuntimeError):
    """Raised if training raised an error that is not about memory."""


def probe(request: Request, *, memory_limit: int, seconds: float) -> Probe:
    """Trains some steps in a new process and measures them.

    Args:
        request: What to try.
        memory_limit: Bytes of the process on the host, above which it is killed.
        seconds: Deadline of the process.

    Raises:
        ValueError: If the user's function does not return what it should.
        ProbeFailed: If training raises an error that is not about memory.
    """
    with asked_process("tfscale.find.batch_probe", asdict(request), os.environ) as asked:
        why, most = _watched(asked.process, memory_limit, seconds)
    if not why and asked.answer is None:
        why = _ended(asked)
    if why or asked.answer is None:
        return Probe(request.batch_size, fits=False, why=why, host_bytes=most)
    outcome = Outcome(**asked.answer)
    return _of_outcome(request, outcome, most, memory_limit)


def _of_outcome(request: Request, outcome: Outcome, most: int | None, memory_limit: int) -> Probe:
    if outcome.error is not None:
        if outcome.is_usage:
            raise ValueError(outcome.error)
        raise ProbeFailed(f"training with batch_size={request.batch_size} raised {outcome.error}")
    if outcome.exhausted is not None or outcome.seconds_per_step is None:
        why = f"a device has not enough memory: {outcome.exhausted}"
        return Probe(request.batch_size, fits=False, why=why, host_bytes=most)
    if (outcome.host_bytes or 0) > memory_limit:  # between two looks of this process
        why = _too_much(memory_limit)
        return Probe(request.batch_size, fits=False, why=why, host_bytes=outcome.host_bytes)
    return Probe(
        request.batch_size,
        fits=True,
        examples_per_second=request.batch_size / outcome.seconds_per_step,
        host_bytes=outcome.host_bytes,
        device_bytes=outcome.device_bytes,
        noise_scale=outcome.noise_scale,
    )


def _watched(
    process: subprocess.Popen[bytes], memory_limit: int, seconds: float
) -> tuple[str, int | None]:
    """Waits for a process. Returns why it must be killed, if so, and its most memory."""
    ends, most = time.monotonic() + seconds, None
    while process.poll() is None:
        now = resident_memory(process.pid)
        if now is not None:
            most = max(most or 0, now)
            if now > memory_limit:
                return _too_much(memory_limit), most
        if time.monotonic() > ends:
            return f"it has not done its steps within {seconds:g} s", most
        time.sleep(_POLL_SECONDS)
    return "", most


def _too_much(memory_limit: int) -> str:
    return f"it needs more than {memory_limit / 2**30:.2f} GiB of the host"


def _ended(asked: AskedProcess) -> str:
    """Says how a process ended that wrote no outcome.

    Raises:
        ProbeFailed: If it was not killed.
    """
    status = asked.process.returncode
    if status == -signal.SIGKILL:
        return "the system has killed it, most likely for its memory"
    raise ProbeFailed(f"the process ended with status {status}: {asked.last_lines}")
