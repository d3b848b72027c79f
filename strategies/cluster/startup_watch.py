"""Watches the clock for `startup_deadline`: a separate program, with the standard library only.

    python startup_watch.py '{"name": "worker 0", "seconds": 300.0, "peers": {}, "expired": "..."}'

Each line on standard input is the phase that the parent begins; it is printed, and again every 20 s
while it lasts. The program ends silently when its input ends. At the deadline it reports and kills
its parent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

PROBE_SECONDS = 2.0
REMINDER_SECONDS = 20.0


def main() -> None:
    """Waits for the end of the input or the deadline, whichever comes first."""
    request = json.loads(sys.argv[1])
    name, seconds = request["name"], request["seconds"]
    parent, began, phase = os.getppid(), time.monotonic(), ""
    while (left := began + seconds - time.monotonic()) > 0:
        if select.select([0], [], [], min(left, REMINDER_SECONDS))[0]:
            lines = os.read(0, 4096).decode()
            if not lines:
                return
            phase = lines.splitlines()[-1]
            _say(f"{name}: {phase}.")
        elif phase and time.monotonic() < began + seconds:
            passed = time.monotonic() - began
            _say(f"{name}: still {phase}, {passed:.0f} of {seconds:g} s.")
    silent = {peer: _why_silent(address) for peer, address in request["peers"].items()}
    if select.select([0], [], [], 0)[0] and not os.read(0, 4096):
        return  # it started while the peers were probed
    missing = ", ".join(f"{peer} ({why})" for peer, why in silent.items() if why)
    missing = missing or "no task in particular, every address accepts connections"
    # Not `format`: a name may contain braces.
    line = request["expired"].replace("{missing}", missing).replace("{phase}", phase or "starting")
    _say(line)
    os.kill(parent, signal.SIGKILL)


def _why_silent(address: str) -> str | None:
    """Returns why `address` does not answer, or None if something listens there."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS):
            return None
    except OSError as error:
        return f"{address}: {error.strerror or error}"


def _say(line: str) -> None:
    print(f"tfscale: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
