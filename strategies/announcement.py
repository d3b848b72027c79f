"""Prints one line for the user: which strategy was chosen, and why."""

from __future__ import annotations

import sys


def announce(line: str) -> None:
    """Prints `tfscale: <line>` on standard error, so that it does not mix with results."""
    print(f"tfscale: {line}", file=sys.stderr, flush=True)
