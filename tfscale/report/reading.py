"""Reads the files of a run; anything that is not a text file is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfscale.files.plain_files import read_plain
from tfscale.report import values


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8.

    Args:
        path: The file. A FIFO or another special file is refused without waiting for it.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a plain file, or not UTF-8.
    """
    content = read_plain(path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`{path.name}` must be text in UTF-8. Received: byte {content[error.start]:#04x} at "
            f"{error.start}. Train again, or remove the file."
        ) from error


def read_object(text: str, *, name: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        text: The text of a file.
        name: The file's name, for messages.

    Raises:
        ValueError: If it is not a JSON object, or is nested too deep.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"`{name}` must be JSON. Received: {values.shown(text)} ({error}). Train again, or "
            "remove the file."
        ) from error
    except RecursionError as error:
        raise ValueError(
            f"`{name}` must be JSON of a few levels. Received: JSON that is nested too deep. Train "
            "again, or remove the file."
        ) from error
    except ValueError as error:  # an integer of more than 4300 digits
        raise ValueError(
            f"`{name}` must contain numbers in the range of a float. Received: {error}. Train "
            "again, or remove the file."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"`{name}` must be a JSON object. Received: {type(found).__name__}. Train again, or "
            "remove the file."
        )
    return found
