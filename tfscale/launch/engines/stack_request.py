"""Program: asks the processes of a job on this host to write the stacks of their threads.

    python -m tfscale.launch.engines.stack_request JOB_ID

A process belongs to the job if its environment, or that of a process above it, has
TFSCALE_JOB_ID=JOB_ID, or if a launcher of the job is above it. Workers of an elastic job have the
id of the launcher with the rendezvous, so the ids below one launcher lead to the workers of the
others. Only a process that handles SIGUSR2 gets it, because the signal would end any other. Prints
`asked N of M`. Needs Linux's /proc, and no package: `--engine=tpu_vm` sends this file to the VM.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

_PROCESSES = Path("/proc")
_JOB = b"TFSCALE_JOB_ID="


def ask(members: Iterable[int], processes: Path = _PROCESSES) -> int:
    """Sends SIGUSR2 to those of some processes that handle it.

    Args:
        members: The processes.
        processes: Where the system shows its processes.

    Returns:
        How many were asked.
    """
    asked = 0
    for process in members:
        try:
            status = (processes / str(process) / "status").read_text()
            caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.M)
            if caught and int(caught[1], 16) >> (signal.SIGUSR2 - 1) & 1:
                os.kill(process, signal.SIGUSR2)
                asked += 1
        except OSError:  # it has ended
            continue
    return asked


def members_of(
    job: str, launchers: Iterable[int] = (), processes: Path = _PROCESSES
) -> tuple[int, ...]:
    """Returns the processes of a job on this host.

    Args:
        job: The job's id.
        launchers: Processes that have started workers of the job. They themselves may have the
            variables of another job, in which they were started.
        processes: Where the system shows its processes.
    """
    parents: dict[int, int] = {}
    jobs: dict[int, bytes] = {}
    for folder in processes.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
            for variable in (folder / "environ").read_bytes().split(b"\0"):
                if variable.startswith(_JOB):
                    jobs[int(folder.name)] = variable[len(_JOB) :]
        except OSError:  # it has ended, or belongs to another user
            continue

    def is_below(process: int, those: set[int]) -> bool:
        while process and process not in those:
            process = parents.get(process, 0)
        return bool(process)

    above = set(launchers)
    started = {each for each in parents if each not in above and is_below(each, above)}
    ids = {job.encode()} | {jobs[each] for each in started if each in jobs}
    own = {each for each in jobs if jobs[each] in ids} | started
    return tuple(each for each in sorted(parents) if is_below(each, own))


def main() -> int:
    """Asks, and prints how many were asked. Returns 1 if none was."""
    members = members_of(sys.argv[1])
    asked = ask(members)
    print(f"asked {asked} of {len(members)}")
    return 0 if asked else 1


if __name__ == "__main__":
    sys.exit(main())
