"""Program: asks the processes of a job on this host to write the stacks of their threads.

    python -m tfscale.launch.engines.stack_request JOB_ID

A process belongs to the job if its environment has TFSCALE_JOB_ID=JOB_ID. Only one that handles
SIGUSR2 gets it, because the signal would end any other. Prints `asked N of M`. Needs Linux's /proc.
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
    variable = f"TFSCALE_JOB_ID={job}".encode()
    asked = found = 0
    for folder in processes.glob("[0-9]*"):
        try:
            if variable not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            found += 1
            caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", (folder / "status").read_text(), re.M)
            if caught and int(caught[1], 16) >> (signal.SIGUSR2 - 1) & 1:
                os.kill(int(folder.name), signal.SIGUSR2)
                asked += 1
        except (OSError, ValueError):  # it has ended, or belongs to another user
            continue
    return asked, found


def main() -> int:
    """Asks, and prints how many were asked. Returns 1 if none was."""
    asked, found = ask(sys.argv[1])
    print(f"asked {asked} of {found}")
    return 0 if asked else 1


if __name__ == "__main__":
    sys.exit(main())
