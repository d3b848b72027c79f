"""Modules of the current folder."""

from __future__ import annotations

import sys
from pathlib import Path


def search_current_folder() -> str:
    """Lets modules of the current folder be imported, as `python -m` does. Returns the folder."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return folder
