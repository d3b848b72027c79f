"""The watch of `tpu_start`: a program of its own, with the standard library alone.

    python tpu_start_watch.py local 300

Reads on standard input, line by line, what its parent is about to do; repeats it now and then; ends
quietly when the input ends; past the deadline it says what was waited for and kills its parent.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

REMINDER_SECONDS = 20.0


def main() -> None:
    """Waits for the end of input or the deadline, whichever comes first."""
    tpu, seconds = sys.argv[1], float(sys.argv[2])
    parent, began, phase = os.getppid(), time.monotonic(), "starting"
    while (left := began + seconds - time.monotonic()) > 0:
        if select.select([0], [], [], min(left, REMINDER_SECONDS))[0]:
            told = os.read(0, 4096).decode()
            if not told:
                return
            phase = told.splitlines()[-1]
            _say(f"TPU {tpu!r}: {phase}.")
        elif time.monotonic() < began + seconds:
            passed = time.monotonic() - began
            _say(f"TPU {tpu!r}: still {phase}, {passed:.0f} of {seconds:g} s.")
    _say(
        f"TPU {tpu!r} was not there after {seconds:g} s (`bring_up_seconds`) and is given up; last:"
        f" {phase}. Another process may hold it (sudo lsof -w /dev/accel* /dev/vfio/*), or its VMs "
        "may be unreachable: gcloud compute tpus tpu-vm describe NAME --zone=ZONE."
    )
    os.kill(parent, signal.SIGKILL)


def _say(line: str) -> None:
    print(f"tfscale: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
