"""What a table was made with."""

from __future__ import annotations

import os

from tests import tables


def versions() -> str:
    """Returns a sentence of versions, the system and how busy it was."""
    return f"{tables.versions()}, {os.cpu_count()} CPUs at load {os.getloadavg()[2]:.0f}."
