"""Program: executes a command that is killed when its parent dies.

    python exec_tied.py <pid of the parent> COMMAND [ARGUMENT ...]

This is a program and not a `preexec_fn`, because a `preexec_fn` runs Python between fork and exec
of a process with threads and can deadlock. On Linux the kernel kills the worker when the launcher
ends, even by SIGKILL. On other systems this program only resets signals, and kill_orphans.py does
the killing.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Ties this process to its parent and executes the command."""
    # A launcher in the background of a shell ignores the first two, and forwards SIGINT all the
    # same. An ignored signal stays ignored after exec. Python itself ignores the others.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
            reason = os.strerror(ctypes.get_errno())
            sys.exit(f"tfscale launch: prctl(PR_SET_PDEATHSIG): {reason}")
    cpus = os.environ.pop("TFSCALE_CPUS", "")  # tfscale.launch.shares
    if cpus:
        os.sched_setaffinity(0, [int(cpu) for cpu in cpus.split(",")])
    # The parent may have died before prctl.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        # As in a shell: 127 the command or its interpreter was not found, 126 not executable.
        sys.stderr.write(f"tfscale launch: cannot run {command[0]!r}: {error.strerror}\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


if __name__ == "__main__":
    main()
