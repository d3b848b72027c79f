"""Program: kills the process groups of a launcher that died without ending them.

    python kill_orphans.py < pipe from the launcher

A line `<group>` adds a group, a line `-<group>` removes it. The pipe closes when the launcher ends
for any reason. Then all remaining groups get SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Reads until the launcher has ended, then kills the remaining groups."""
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line)
        if group > 0:
            groups.add(group)
        else:
            groups.discard(-group)
    for group in groups:
        # PermissionError: a group of zombies on macOS, or a command that changed its user.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
