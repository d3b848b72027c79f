"""What a table was made with."""

from __future__ import annotations

import importlib.metadata
import os
import platform

_NAMES = ("tensorflow-cpu", "tensorflow", "keras")


def versions() -> str:
    """Returns a sentence of versions, the system and how busy it was."""
    installed = {
        found.metadata["Name"].lower().replace("_", "-"): found.version
        for found in importlib.metadata.distributions()
        if found.metadata["Name"]
    }
    parts = [f"{name} {installed[name]}" for name in _NAMES if name in installed]
    system = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} CPUs"
    return f"{', '.join(parts)}, {system} at load {os.getloadavg()[2]:.0f}."
