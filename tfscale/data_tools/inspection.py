"""What `tfscale data inspect` found, of a packed set or of record files without a manifest."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfscale.data_tools.previews import Value, previewed
from tfscale.records.content import records_in
from tfscale.records.manifest import Feature, Manifest, feature_names
from tfscale.records.processes import Say, each_file
from tfscale.records.verification import GOOD, Checked, FileState, checked


@dataclass(frozen=True)
class FileRow:
    """A file.

    Attributes:
        file: Its name, or its path if there is no manifest.
        records: Number of its records; None if unknown.
        size: Bytes; None if it is missing.
        state: See `FileState`.
        problem: What is wrong, and the cure; "" if it is good.
    """

    file: str
    records: int | None
    size: int | None
    state: str
    problem: str


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        name: The set, or the files.
        facts: What is known about all files, by name.
        features: Name, type and storage of each part of an example.
        files: The files. Those of the manifest first, in its order.
        examples: The first examples.
    """

    name: str
    facts: dict[str, Any]
    features: list[tuple[str, str, str]]
    files: list[FileRow]
    examples: list[list[Value]]

    @property
    def damaged(self) -> list[FileRow]:
        """The files that have a problem."""
        return [row for row in self.files if row.problem]


def of_set(
    folder: str, manifest: Manifest, states: Sequence[FileState], num_examples: int
) -> Inspection:
    """Returns what is known about a packed set.

    Args:
        folder: Its folder.
        manifest: Its manifest.
        states: What `verified` found.
        num_examples: Number of examples to show.
    """
    shards = {shard.file: shard for shard in manifest.shards}
    files = []
    for state in states:
        shard = shards.get(state.file)
        size = shard.bytes if shard and state.state == GOOD else _size(folder, state.file)
        records = shard.examples if shard else None
        files.append(FileRow(state.file, records, size, state.state, state.problem))
    intact = [
        state.file
        for state in states
        if state.file in shards and state.state in (GOOD, "no index", "wrong index")
    ]
    paths = [os.path.join(folder, file) for file in intact]  # noqa: PTH118
    return Inspection(
        name=folder,
        facts=_facts(manifest),
        features=[_feature(feature) for feature in _in_order(manifest)],
        files=files,
        examples=_examples(paths, num_examples, manifest),
    )


def of_files(paths: Sequence[str], num_examples: int, *, jobs: int, say: Say) -> Inspection:
    """Reads record files that have no manifest.

    Args:
        paths: The files.
        num_examples: Number of examples to show.
        jobs: Processes that read. Positive.
        say: Called with a line of progress every few seconds.

    Raises:
        OSError: If a process was killed.
        ImportError: If the package for a container is not installed.
    """
    with contextlib.closing(
        each_file(checked, paths, jobs=jobs, say=say, done="verified")
    ) as results:
        found = dict(results)
    files, first_with = [], dict[str, str]()
    for path in paths:
        result = found[path]
        if not isinstance(result, Checked):
            files.append(FileRow(path, None, _size("", path), "unreadable", str(result)))
            continue
        original = first_with.setdefault(result.content.sha256, path)
        state, problem = _state(path, result, original)
        files.append(FileRow(path, result.content.records, result.content.size, state, problem))
    contents = [result.content for result in found.values() if isinstance(result, Checked)]
    kinds = {f"{content.container} {content.compression}".strip() for content in contents}
    examples = _examples([row.file for row in files if row.state == GOOD], num_examples, None)
    return Inspection(
        name=paths[0] if len(paths) == 1 else f"{len(paths):,} files",
        facts={
            "container": ", ".join(sorted(kinds)),
            "examples": sum(content.records for content in contents),
            "data": f"{sum(content.data_size for content in contents):,} bytes",
        },
        features=_seen_features(examples),
        files=files,
        examples=examples,
    )


def _state(path: str, read: Checked, original: str) -> tuple[str, str]:
    if read.content.problem:
        return "damaged", read.content.problem
    if original != path:
        return "duplicated", f"{path} is a copy of {original}. Remove one of them."
    if read.index == "wrong index":
        problem = f"The index of {path} does not belong to it. Run `tfscale data index {path}`."
        return "wrong index", problem
    return GOOD, ""


def _size(folder: str, file: str) -> int | None:
    try:
        return Path(folder, file).stat().st_size
    except OSError:
        return None


def _facts(manifest: Manifest) -> dict[str, Any]:
    names = manifest.class_names
    return {
        "container": " ".join(filter(None, (manifest.container, manifest.compression))),
        "examples": manifest.num_examples,
        "split": manifest.split,
        "classes": names and f"{len(names):,}: {_listed(names)}",
        "source": manifest.source,
        "fingerprint": manifest.fingerprint,
    }


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _in_order(manifest: Manifest) -> list[Feature]:
    """Returns the features in the order of the parts of an example."""
    by_name = {feature.name: feature for feature in manifest.features}
    return [by_name[name] for name in feature_names(manifest.structure)]


def _feature(feature: Feature) -> tuple[str, str, str]:
    shape = ", ".join("None" if size is None else str(size) for size in feature.shape)
    storage = feature.encoding
    if feature.formats:
        storage += f": {', '.join(feature.formats)}"
    if feature.image_size:
        storage += ", resized to {}x{} when read".format(*feature.image_size)
    return feature.name, f"{feature.dtype} [{shape}]", storage


def _examples(paths: Sequence[str], count: int, manifest: Manifest | None) -> list[list[Value]]:
    records = itertools.islice(_records(paths), count)
    return [previewed(record, manifest) for record in records]


def _records(paths: Sequence[str]) -> Iterator[bytes]:
    for path in paths:
        yield from records_in(path)


def _seen_features(examples: list[list[Value]]) -> list[tuple[str, str, str]]:
    """Returns the parts of the first examples, and in how many of them each is."""
    counts: dict[str, list[str]] = {}
    for example in examples:
        for value in example:
            counts.setdefault(value.name, []).append(value.kind)
    return [
        (name, ", ".join(sorted(set(kinds))), f"in {len(kinds)} of the first {len(examples)}")
        for name, kinds in sorted(counts.items())
    ]
