"""The holder of a lease on a checkpoint folder, and what another process knows about it.

On the same host the system knows whether a process is alive. Process ids are reused, so a process
is identified together with its start time, the boot id of the system and its process namespace,
because each container on a host numbers its processes separately.
"""

from __future__ import annotations

import enum
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strategies.extension import JobStart, own_job_starts
from tfscale.files.process_stat import process_stat


class Verdict(enum.Enum):
    """What one process knows about another without waiting."""

    DEAD = "dead"
    ALIVE = "alive"
    EARLIER_START = "an earlier start of this job"
    LATER_START = "a later start of this job"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease.

    Attributes:
        host: The host's name, for messages.
        pid: The process id.
        since: When it acquired the lease, for messages.
        system: Boot id and process namespace; empty if unknown.
        process_start: Clock ticks from the boot to the start of the process; empty if unknown.
        jobs: The scheduler jobs that the process belongs to.
    """

    host: str
    pid: int
    since: str
    system: str = ""
    process_start: str = ""
    jobs: tuple[JobStart, ...] = ()

    def __str__(self) -> str:
        details = "; ".join([*map(str, self.jobs), f"since {self.since}"])
        return f"process {self.pid} on host {self.host!r} ({details})"

    def verdict(self, other: Holder) -> Verdict:
        """Returns what this process, which is running, knows about another."""
        own = {(job.scheduler, job.job): job.start for job in self.jobs}
        starts = [
            job.start - own[job.scheduler, job.job]
            for job in other.jobs
            if (job.scheduler, job.job) in own
        ]
        if any(later > 0 for later in starts):
            return Verdict.LATER_START
        if any(later < 0 for later in starts):
            return Verdict.EARLIER_START
        if not self.system or self.system != other.system or not other.process_start:
            return Verdict.UNKNOWN
        return _verdict_of_process(other.pid, other.process_start)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values for `from_json`."""
        jobs = [[job.scheduler, job.job, job.start] for job in self.jobs]
        return {**vars(self), "jobs": jobs}

    @classmethod
    def from_json(cls, values: Any) -> Holder:
        """Returns the holder that `to_json` described.

        Raises:
            ValueError: If the values are malformed.
        """
        try:
            texts = {name: str(values[name]) for name in ("host", "since", "system")}
            jobs = tuple(JobStart(str(a), str(b), int(c)) for a, b, c in values["jobs"])
            start = str(values["process_start"])
            return cls(**texts, pid=int(values["pid"]), process_start=start, jobs=jobs)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"malformed holder: {error!r}") from error


def own_holder() -> Holder:
    """Returns this process as a holder."""
    pid = os.getpid()
    return Holder(
        host=platform.node(),
        pid=pid,
        since=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        system=_own_system(),
        process_start=(process_stat(pid) or ("", ""))[1],
        jobs=own_job_starts(),
    )


def _own_system() -> str:
    """Returns boot id and namespace on Linux. Elsewhere a dead process is detected by timeout."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except (OSError, ValueError):
        return ""


def _verdict_of_process(pid: int, start: str) -> Verdict:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return Verdict.DEAD
    except PermissionError:
        pass  # it belongs to another user; its entry in /proc may be hidden
    found = process_stat(pid)
    if found is None:
        return Verdict.UNKNOWN
    state, started = found
    # A killed process is a zombie until its parent collects it.
    return Verdict.ALIVE if started == start and state not in "ZX" else Verdict.DEAD
