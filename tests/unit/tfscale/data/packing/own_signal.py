"""Program: a command of tfscale that sends itself a signal when it opens a file.

    python -m tests.unit.tfscale.data.packing.own_signal SIGNAL NAME ARGUMENTS...

So the signal comes at the same place of the work, however fast the machine is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from tests.programs import ROOT, own_environment
from tfscale.__main__ import main


def signalled(kind: signal.Signals, name: str, *arguments: str) -> tuple[int, str]:
    """Runs a command in the current directory.

    Args:
        kind: What it sends itself.
        name: A part of the name of the file that it opens then for the first time.
        *arguments: Of the command, after `tfscale`.

    Returns:
        Its exit status, and its standard error.
    """
    program = [sys.executable, "-m", "tests.unit.tfscale.data.packing.own_signal"]
    done = subprocess.run(
        [*program, kind.name, name, *arguments],
        env=own_environment(PYTHONPATH=str(ROOT)),
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stderr


def _send_at(kind: signal.Signals, name: str) -> None:
    is_left = [True]

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and name in str(arguments[0]) and is_left:
            is_left.clear()
            os.kill(os.getpid(), kind)

    sys.addaudithook(see)


if __name__ == "__main__":
    _send_at(signal.Signals[sys.argv[1]], sys.argv[2])
    sys.exit(main(sys.argv[3:]))
