"""The names of classes in files that are, or end with, a zip archive. No TensorFlow here."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

LABELS = "labels.txt"


def add_labels(path: Path, labels: Sequence[str]) -> None:
    """Adds labels.txt to a zip archive, or an archive to the end of another file, if there are any.

    The other file is one whose runtime ignores what is behind its end, such as LiteRT's.
    """
    if labels:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(LABELS, "\n".join(labels))


def labels_text(path: Path) -> str:
    """Returns what `add_labels` has added, "" if nothing."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        return archive.read(LABELS).decode("utf-8") if LABELS in archive.namelist() else ""
