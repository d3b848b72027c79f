"""The watch of `bring_up`: a program of its own, with the standard library alone.

    python bring_up_watch.py "worker 0" 300 '{"worker 1": "10.0.0.2:2222"}'

Ends quietly when its standard input ends; past the deadline it reports and kills its parent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys

PROBE_SECONDS = 2.0


def main() -> None:
    """Waits for the end of input or the deadline, whichever comes first."""
    own, seconds, peers = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
    parent = os.getppid()
    if select.select([sys.stdin], [], [], seconds)[0]:
        return
    silent = [f"{name} ({why})" for name, address in peers.items() if (why := _why_silent(address))]
    if select.select([sys.stdin], [], [], 0)[0]:
        return  # it came together while the peers were asked
    missing = ", ".join(silent) or "no task in particular: every address accepts connections"
    print(
        f"tfscale: {own} waited {seconds:g} s for the cluster to come together and gives up. Waited"
        f" for: {missing}. Start all tasks within `bring_up_seconds` (tfscale launch "
        "--start_seconds), and check that their addresses are reachable from here.",
        file=sys.stderr,
        flush=True,
    )
    os.kill(parent, signal.SIGKILL)


def _why_silent(address: str) -> str | None:
    """Returns why `address` does not answer, or None where something listens."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS):
            return None
    except OSError as error:
        return f"{address}: {error.strerror or error}"


if __name__ == "__main__":
    main()
