"""Compares the shards of a packed set with its manifest, completely.

Every shard is read to its end: size, hash of the file, checksums and number of its records, and its
index. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfscale.records.content import Content, examined
from tfscale.records.index import SUFFIX, RecordFileError, index_path
from tfscale.records.manifest import NAME, Manifest, Shard
from tfscale.records.processes import Say, SayRead, each_file

GOOD = "good"
REMADE = ("missing", "truncated", "damaged", "duplicated", "unreadable")
"""States of shards that are made again from the source of the set."""


@dataclass(frozen=True)
class FileState:
    """A file of a packed set, or one that should be there.

    Attributes:
        file: Its name.
        state: "good"; "missing"; "truncated"; "damaged"; "swapped", with the content of another
            shard that is not in its place; "duplicated", with that of one that is; "renamed", not
            in the manifest, but with the content of a shard that is not in its place;
            "unexpected", not in the manifest; "no index", "wrong index"; "unreadable".
        problem: What is wrong, and the cure, in one sentence each; "" if it is good.
        content_of: The shard that a swapped, duplicated or renamed file contains; else None.
    """

    file: str
    state: str
    problem: str = ""
    content_of: str | None = None


def verified(
    folder: str | os.PathLike[str], manifest: Manifest, *, jobs: int, say: Say
) -> list[FileState]:
    """Reads all shards of a packed set and compares them with its manifest.

    Args:
        folder: Folder of the set. Local.
        manifest: Its manifest.
        jobs: Processes that read. Positive.
        say: Called with a line of progress every few seconds.

    Returns:
        The shards in the order of the manifest, then other files that may be shards, by name.

    Raises:
        OSError: If the folder cannot be listed, or a process was killed.
        ImportError: If the package for the container is not installed.
    """
    shards = {shard.file: shard for shard in manifest.shards}
    sizes = {shard.bytes for shard in manifest.shards}
    present = _files(folder)
    others = [name for name in present if name not in shards and not _belongs(name)]
    # Another file is read only if it may be a shard that was renamed.
    read = [name for name in present if name in shards]
    read += [name for name in others if present[name] in sizes]
    found: dict[str, Checked | RecordFileError | OSError] = {}
    paths = [os.path.join(folder, name) for name in read]  # noqa: PTH118
    with contextlib.closing(
        each_file(checked, paths, jobs=jobs, say=say, done="verified")
    ) as results:
        for path, result in results:
            found[Path(path).name] = result
    return list(_states(shards, others, found))


@dataclass(frozen=True)
class Checked:
    """What was read from a file.

    Attributes:
        content: What it contains.
        index: State of its index: "good", also if it needs none; "no index"; "wrong index".
    """

    content: Content
    index: str


def checked(path: str, say: SayRead) -> Checked:
    """Reads a file to its end and compares it with its index.

    Args:
        path: The file.
        say: Called now and then with the number of bytes read so far.

    Raises:
        OSError: If it or its index cannot be read.
        ImportError: If the package for its container is not installed.
    """
    content = examined(path, say)
    index = GOOD
    if content.index is not None:
        try:
            same = index_path(path).read_bytes() == content.index.to_bytes()
            index = GOOD if same else "wrong index"
        except FileNotFoundError:
            index = "no index"
    return Checked(dataclasses.replace(content, index=None), index)


def _files(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Returns names and sizes of the files in a folder."""
    with os.scandir(folder) as entries:
        found = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    return dict(sorted(found.items()))


def _belongs(name: str) -> bool:
    """Returns whether a file that is no shard may be in the folder."""
    return name == NAME or name.startswith(".") or name.endswith(SUFFIX)


def _states(
    shards: dict[str, Shard],
    others: list[str],
    found: dict[str, Checked | RecordFileError | OSError],
) -> Iterator[FileState]:
    hashes = {
        name: result.content.sha256 for name, result in found.items() if isinstance(result, Checked)
    }
    in_place = {name for name, shard in shards.items() if hashes.get(name) == shard.sha256}
    # The content of a shard that is not in its place, wherever it is.
    lost = {shard.sha256: name for name, shard in shards.items() if name not in in_place}
    kept = {shards[name].sha256: name for name in in_place}
    holders = {lost[digest]: name for name, digest in hashes.items() if digest in lost}
    for name, shard in shards.items():
        if name not in found:
            yield _missing(name, holders.get(name))
            continue
        result = found[name]
        if not isinstance(result, Checked):
            yield FileState(name, "unreadable", str(result))
        elif name in in_place:
            yield _in_place(shard, result)
        elif original := lost.get(result.content.sha256):
            problem = f"{name} contains the shard {original}. Run with --repair: it is moved back."
            yield FileState(name, "swapped", problem, original)
        elif original := kept.get(result.content.sha256):
            problem = f"{name} is a copy of {original}; its own content is lost. {_REMAKE}"
            yield FileState(name, "duplicated", problem, original)
        else:
            yield _changed(shard, result.content)
    for name in others:
        digest = hashes.get(name, "")
        if original := lost.get(digest):
            problem = f"{name} contains the shard {original}. Run with --repair: it is moved back."
            yield FileState(name, "renamed", problem, original)
        elif original := kept.get(digest):
            problem = f"{name} is not in the manifest: a copy of {original}. Remove it."
            yield FileState(name, "unexpected", problem, original)
        elif any(Path(shard).suffix in Path(name).suffixes for shard in shards):
            problem = f"{name} is not in the manifest. Move it to another folder, or remove it."
            yield FileState(name, "unexpected", problem)


_REMAKE = "Restore it from a copy, or run with --repair --source=SOURCE."


def _missing(name: str, holder: str | None) -> FileState:
    if holder is None:
        return FileState(name, "missing", f"{name} is missing. {_REMAKE}")
    return FileState(name, "missing", f"{name} is missing; {holder} contains it. See there.")


def _in_place(shard: Shard, read: Checked) -> FileState:
    name, content = shard.file, read.content
    if content.problem or content.records != shard.examples:
        problem = content.problem or f"it has {content.records} records, not {shard.examples}."
        return FileState(
            name,
            "damaged",
            f"{name} was damaged before its manifest was written: {problem} Pack the set again.",
        )
    if read.index == GOOD:
        return FileState(name, GOOD)
    problem = "is missing" if read.index == "no index" else "does not belong to it"
    return FileState(
        name,
        read.index,
        f"The index {name}{SUFFIX} {problem}; the shard is good. Run with --repair: it is written "
        "again from the shard.",
    )


def _changed(shard: Shard, content: Content) -> FileState:
    name, size = shard.file, content.size
    if size < shard.bytes:
        problem = f"{name} is truncated: it has {size:,} of {shard.bytes:,} bytes"
        return FileState(name, "truncated", f"{problem}. {_REMAKE}")
    if size > shard.bytes:
        problem = f"it has {size:,} bytes, not {shard.bytes:,}"
    elif content.problem:
        # The first sentence; its cure is not that of a packed set.
        problem = content.problem.rpartition(". ")[0].rpartition(" is damaged: ")[2]
        problem = f"{problem}, in record {content.records}"
    else:
        problem = "it has other content, with intact records"
    return FileState(name, "damaged", f"{name} is damaged: {problem}. {_REMAKE}")
