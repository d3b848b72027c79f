"""Program: asks the processes of a job on this host to write the stacks of their threads.

    python -m tfscale.launch.engines.stack_request JOB_ID

A process belongs to the job if its environment, or that of a process above it, has
TFSCALE_JOB_ID=JOB_ID: workers of an elastic job have the id of the launcher with the rendezvous,
and are below their own. Only a process that handles SIGUSR2 gets it, because the signal would end
any other. Prints `asked N of M`. Needs Linux's /proc.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

_PROCESSES = Path("/proc")


def ask(job: str, processes: Path = _PROCESSES) -> tuple[int, int]:
    """Sends SIGUSR2 to the processes of a job that handle it.

    Args:
        job: The job's id.
        processes: Where the system shows its processes.

    Returns:
        How many were asked, and how many processes the job has on this host.
    """
    asked = 0
    members = _members(job, processes)
    for process in members:
        try:
            status = (processes / str(process) / "status").read_text()
            caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.M)
            if caught and int(caught[1], 16) >> (signal.SIGUSR2 - 1) & 1:
                os.kill(process, signal.SIGUSR2)
                asked += 1
        except OSError:  # it has ended
            continue
    return asked, len(members)


def _members(job: str, processes: Path) -> list[int]:
    """Returns the processes of a job and all below them."""
    variable = f"TFSCALE_JOB_ID={job}".encode()
    parents: dict[int, int] = {}
    found = set()
    for folder in processes.glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except OSError:  # it has ended, or belongs to another user
            continue

    def is_below(process: int) -> bool:
        while process and process not in found:
            process = parents.get(process, 0)
        return bool(process)

    return [process for process in sorted(parents) if is_below(process)]


def main() -> int:
    """Asks, and prints how many were asked. Returns 1 if none was."""
    asked, found = ask(sys.argv[1])
    print(f"asked {asked} of {found}")
    return 0 if asked else 1


if __name__ == "__main__":
    sys.exit(main())
