"""What tells the content of a source from that of another, for the key of a cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tfscale.data.composition.evaluation import content_of
from tfscale.data.composition.function_key import function_key
from tfscale.data.composition.mapping import Mapped
from tfscale.data.packing.packed_source import PackedSource
from tfscale.data.sources import RandomAccessSource, ReadSource
from tfscale.data.sources.image_folder import ImageFolder


def content_key(source: RandomAccessSource) -> list[str]:
    """Returns texts that differ if the examples do.

    Unlike a fingerprint they depend on all values of arrays, on when files of images changed, and
    on the manifest of shards.
    """
    return [*content_of(source), *_beyond_fingerprints(source)]


def code_key(source: RandomAccessSource) -> list[str] | None:
    """Returns hashes of the functions that decode and map examples.

    Returns:
        None if one of them has no stable hash.
    """
    keys: list[str | None] = []
    if isinstance(source, Mapped):
        keys.append(source.key)
    elif isinstance(source, ReadSource) and not isinstance(source, ImageFolder | PackedSource):
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


def _beyond_fingerprints(source: RandomAccessSource) -> list[str]:
    """What may change although the fingerprints of the sources stay the same.

    The fingerprint of images has their names and sizes, but not when they changed; that of shards
    has their records, but not how the manifest says to decode them.
    """
    found = [text for part in source.parts for text in _beyond_fingerprints(part)]
    if isinstance(source, ImageFolder):
        digest = hashlib.sha256()
        for path in source.files:
            digest.update(f"{Path(path).stat().st_mtime_ns}\n".encode())
        found.append(digest.hexdigest())
    elif isinstance(source, PackedSource):
        found.append(repr(source.manifest))
    return found
