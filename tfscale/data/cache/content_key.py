"""What tells the content of a source from that of another, for the key of a cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tfscale.data.composition.evaluation import content_of
from tfscale.data.composition.function_key import function_key
from tfscale.data.composition.mapping import Mapped
from tfscale.data.sources import RandomAccessSource, ReadSource
from tfscale.data.sources.image_folder import ImageFolder


def content_key(source: RandomAccessSource) -> list[str]:
    """Returns texts that differ if the examples do.

    Unlike a fingerprint they depend on all values of arrays, and on when files of images changed.
    """
    return [*content_of(source), *_times(source)]


def code_key(source: RandomAccessSource) -> list[str] | None:
    """Returns hashes of the functions that decode and map examples.

    Returns:
        None if one of them has no stable hash.
    """
    keys: list[str | None] = []
    if isinstance(source, Mapped):
        keys.append(source.key)
    elif isinstance(source, ReadSource) and not isinstance(source, ImageFolder):
        functions = [source.parse, source.decode]
        keys += [None if one is None else function_key(one) or "" for one in functions]
    found: list[str] = []
    for part in source.parts:
        of_part = code_key(part)
        if of_part is None:
            return None
        found += of_part
    if "" in keys:
        return None
    return [*map(str, keys), *found]


def _times(source: RandomAccessSource) -> list[str]:
    """A hash of when the files of images changed: their fingerprint has names and sizes only."""
    found = [text for part in source.parts for text in _times(part)]
    if isinstance(source, ImageFolder):
        digest = hashlib.sha256()
        for path in source.files:
            digest.update(f"{Path(path).stat().st_mtime_ns}\n".encode())
        found.append(digest.hexdigest())
    return found
