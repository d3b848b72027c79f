"""Tables that programs of the tests write into a document, between two markers."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

_NAMES = ("tensorflow-cpu", "tensorflow", "keras", "keras-nightly")


def around(text: str, begin: str, end: str) -> tuple[str, str, str]:
    """Returns the text before a table's markers, between them and after them.

    Raises:
        ValueError: If there are no markers.
    """
    before, first, rest = text.partition(begin)
    block, last, after = rest.partition(end)
    if not (first and last):
        raise ValueError(
            f"`text` must contain the markers of the table. Received: a document without {begin!r} "
            f"and {end!r}. Add the two lines where the table belongs."
        )
    return before, block, after


def renewed(old: Sequence[str], lines: Sequence[str], key: Callable[[str], str]) -> list[str]:
    """Returns old lines, replaced by new ones with the same key, and then the other new lines."""
    new = {key(line): line for line in lines}
    return [new.pop(key(line), line) for line in old] + list(new.values())


def escaped(cell: str) -> str:
    """Returns a text escaped for a cell."""
    return cell.replace("|", "\\|").replace("<", "&lt;")


def versions() -> str:
    """Returns the versions with which a table is made, and the system."""
    installed = {
        found.metadata["Name"].lower().replace("_", "-"): found.version
        for found in importlib.metadata.distributions()
        if found.metadata["Name"]
    }
    parts = [f"{name} {installed[name]}" for name in _NAMES if name in installed]
    return f"{', '.join(parts)}, Python {platform.python_version()}, {platform.system()}"


def write(path: Path, text: str) -> None:
    """Replaces a file atomically."""
    part = path.with_suffix(".part")
    part.write_text(text, "utf-8")
    part.rename(path)
