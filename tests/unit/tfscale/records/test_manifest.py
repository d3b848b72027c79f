from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tfscale.records.manifest import (
    NAME,
    Feature,
    Manifest,
    ManifestError,
    Shard,
    feature_names,
    parse_manifest,
    read_manifest,
    shard_fingerprint,
    write_manifest,
)

MANIFEST = Manifest(
    container="tfrecord",
    compression="GZIP",
    structure={"tuple": [{"dict": {"b": "picture", "a": "length"}}, "label"]},
    features=(
        Feature("label", "int64", (), "int64"),
        Feature("length", "float32", (None, 2), "float"),
        Feature("picture", "uint8", (8, 6, 3), "image", (8, 6), ("jpg", "png")),
    ),
    num_examples=5,
    split="train",
    class_names=("cat", "dög"),
    source="image_folder('pets')",
    fingerprint="f",
    key="k",
    shards=(
        Shard("train-00000.tfrecord", 0, 3, 100, "s0", "f0"),
        Shard("train-00001.tfrecord", 3, 2, 90, "s1", "f1"),
    ),
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST


def test_every_changed_byte_is_noticed() -> None:
    content = MANIFEST.to_json().encode()
    refused = 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        try:  # another white space between fields is the same manifest
            assert parse_manifest(bytes(changed), "m") == MANIFEST
        except ManifestError:
            refused += 1
    assert refused > len(content) / 2


def test_every_cut_is_noticed() -> None:
    content = MANIFEST.to_json().rstrip().encode()
    for size in range(len(content)):
        with pytest.raises(ManifestError, match="Restore it from its origin"):
            parse_manifest(content[:size], "m")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_examples": 6}, "have 5 examples, and it counts 6"),
        ({"num_examples": 0, "shards": ()}, "have 0 examples"),
        ({"compression": "zstd"}, "tfrecord has no compression 'zstd'"),
        ({"container": "zip"}, "a field is missing or of another type"),
        ({"structure": "label"}, "its features are not those of its structure"),
        ({"structure": {"list": ["label"]}}, "neither 'tuple' nor 'dict'"),
        ({"shards": MANIFEST.shards[::-1]}, "train-00001.tfrecord do not follow those before"),
        ({"shards": (dataclasses.replace(MANIFEST.shards[0], file="../a", examples=5),)}, "names"),
        ({"shards": None}, "a field is missing or of another type"),
    ],
)
def test_what_is_inconsistent_is_refused(change: dict[str, Any], problem: str) -> None:
    text = dataclasses.replace(MANIFEST, **change).to_json()
    with pytest.raises(ManifestError, match=re.escape(problem)):
        parse_manifest(text.encode(), "m")


def test_a_newer_version_asks_for_a_newer_release() -> None:
    fields = {**json.loads(MANIFEST.to_json()), "version": 2}
    with pytest.raises(ManifestError, match="of version 2, and this release reads version 1"):
        parse_manifest(json.dumps(fields).encode(), "m")


def test_a_folder_without_a_manifest_is_no_packed_set(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=f"without {NAME}. Check the path"):
        read_manifest(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ManifestError, match=f"without {NAME}. Check the path"):
        read_manifest(tmp_path / "file")


def test_a_fingerprint_differs_by_size_and_ends(tmp_path: Path) -> None:
    files = {"a": b"x" * 5, "same": b"x" * 5, "size": b"x" * 6, "end": b"xxxxy"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = {name: shard_fingerprint(str(tmp_path / name), "tfrecord", "GZIP") for name in files}
    assert found["a"] == found["same"]
    assert len(set(found.values())) == 3


def test_the_names_in_a_structure_are_in_the_order_of_tensorflow() -> None:
    assert feature_names(MANIFEST.structure) == ["length", "picture", "label"]
