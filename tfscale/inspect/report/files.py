"""Text files that are there in full or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a file under a temporary name next to it, then renames it.

    Args:
        path: The file, in a folder that exists. What stands there is replaced.
        text: Its text, written as UTF-8.

    Raises:
        OSError: If it cannot be written. What stood there before still does.

    Example:
        >>> write_whole(Path("page.html"), "<!doctype html>")
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written: {error.strerror or error}. Make room there, or name "
            "another place."
        ) from error
