"""The files to learn from: a sorted list, read as bytes, with whole files held out."""

from __future__ import annotations

import glob
import hashlib
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

# Left out of the standard library: packages that happen to be installed, and tests, which some
# distributions of Python leave out too.
_NOT_LIBRARY = frozenset(("site-packages", "dist-packages", "test", "tests", "idle_test"))


@dataclass(frozen=True)
class Text:
    """Documents, each a file's bytes.

    Attributes:
        train: Documents to train on.
        validation: Documents to validate on.
        name: What they are, for reports.
    """

    train: list[bytes]
    validation: list[bytes]
    name: str


def read_text(pattern: str | None, *, held_out: float, validation_bytes: int) -> Text:
    """Reads the files of a pattern and holds some of them out.

    Which files are held out depends on the hash of their names below the folder they have in
    common, and not on where that is or on their order. A single file is split instead, and its end
    is held out.

    Args:
        pattern: A pattern of files, with `**` for any folders; or None for the source files of
            Python's standard library.
        held_out: Fraction of the files that are held out, rounded, at least one file. In (0, 1).
        validation_bytes: Most bytes to validate on: the first of the files held out, in the order
            of their hashes. Positive.

    Raises:
        ValueError: If the pattern matches no file, or there is not enough text.
    """
    paths = _standard_library() if pattern is None else _matching(pattern)
    documents = {path: path.read_bytes() for path in paths}
    documents = {path: content for path, content in documents.items() if content}
    num_bytes = sum(map(len, documents.values()))
    if num_bytes < 2:
        raise ValueError(
            "`--text` must be a pattern of files with text, of at least two bytes: some are held "
            f"out. Received: --text={pattern}, {len(paths)} files of {num_bytes} bytes together. "
            "Check the pattern."
        )
    if len(documents) == 1:
        (content,) = documents.values()
        stop = min(len(content) - 1, max(1, round(len(content) * (1 - held_out))))
        train, validation = [content[:stop]], [content[stop:]]
    else:
        common = os.path.commonpath([path.parent for path in documents])
        by_hash = sorted(documents, key=lambda path: _hash(path.relative_to(common)))
        count = min(len(by_hash) - 1, max(1, round(len(by_hash) * held_out)))
        validation = [documents[path] for path in by_hash[:count]]
        chosen = set(by_hash[:count])
        train = [content for path, content in documents.items() if path not in chosen]
    name = "the source files of Python's standard library" if pattern is None else pattern
    return Text(train, _first_bytes(validation, validation_bytes), name)


def _standard_library() -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [
        path
        for path in sorted(root.rglob("*.py"))
        if path.is_file() and not _NOT_LIBRARY.intersection(path.relative_to(root).parts)
    ]
    if not paths:
        raise ValueError(
            "`--text` must be a pattern of files where Python has no source files of its standard "
            f"library. Received: --text=None, none in {root}. Name files: --text='books/**/*.txt'."
        )
    return paths


def _matching(pattern: str) -> list[Path]:
    paths = sorted(Path(found) for found in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = [path.absolute() for path in paths if path.is_file()]
    if not files:
        matched = "a folder" if paths else "nothing"
        within = f"{pattern.rstrip('/')}/**" if Path(pattern).is_dir() else "books/**/*.txt"
        raise ValueError(
            "`--text` must be a pattern that matches files. Received: "
            f"--text={pattern}, which matches {matched}. Quote it, so that the shell does not "
            f"replace it, and use ** for any folders: --text='{within}'."
        )
    return files


def _hash(path: Path) -> bytes:
    return hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()


def _first_bytes(documents: list[bytes], size: int) -> list[bytes]:
    """Returns the first documents, of `size` bytes together; the last one may be cut."""
    chosen = []
    for document in documents:
        if size <= 0:
            break
        chosen.append(document[:size])
        size -= len(document)
    return chosen
