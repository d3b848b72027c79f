"""The manifest of a packed set: which shards it has, and what their examples are.

`tfscale data pack` writes a folder of shards, and last of all `manifest.json`. A folder without it
is not complete. Nothing here imports TensorFlow.

The text is JSON: a dict of the fields of `Manifest`, with `format`, `version`, and `checksum`, the
SHA-256 of the other fields as JSON with sorted keys and without spaces.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfscale.files.output_files import write_whole
from tfscale.records.index import index_path, read_index

NAME = "manifest.json"
FORMAT = "tfscale packed examples"
VERSION = 1
COMPRESSIONS: dict[str, tuple[str | None, ...]] = {
    "tfrecord": (None, "GZIP", "ZLIB"),
    "array_record": ("zstd", None),
}
"""The compressions of each container; the first is the default."""
ENCODINGS = ("raw", "int64", "float", "string", "image", "record")

_END_BYTES = 1 << 16


class ManifestError(ValueError):
    """A manifest is missing, damaged, or of a version that this release does not read."""


@dataclass(frozen=True)
class Feature:
    """One part of an example, and how it is stored in its `tf.train.Example`.

    Attributes:
        name: Key of the feature. The format of an image is in a second one, `NAME/format`: the
            ending of its file, `jpg`, `jpeg`, `png`, `bmp` or `gif`.
        dtype: Name of the type of TensorFlow, such as "float32" or "string". An image is "uint8".
        shape: Its shape; the first dimension may be None, for examples of different lengths.
        encoding: How the values are stored, in row-major order: "raw", little-endian bytes as one
            value of a `bytes_list`; "int64", an `int64_list`; "float", a `float_list`; "string", a
            `bytes_list`; "image", the bytes of an image file as one value of a `bytes_list`.
            "record": there is no `tf.train.Example`; the value is the bytes of the record, and the
            only feature.
        image_size: `(height, width)` to which images are resized when they are read, or None.
        formats: The formats of the images, sorted. Empty for all but "image".
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    encoding: str
    image_size: tuple[int, int] | None = None
    formats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shard:
    """One file of a packed set.

    Attributes:
        file: Its name in the folder.
        first: Index of its first example.
        examples: Number of its examples. Positive.
        bytes: Its size.
        sha256: Hash of its content.
        fingerprint: What tells it from another without reading it whole: see `shard_fingerprint`.
    """

    file: str
    first: int
    examples: int
    bytes: int
    sha256: str
    fingerprint: str


@dataclass(frozen=True)
class Manifest:
    """What a packed set contains.

    Attributes:
        container: "tfrecord" or "array_record".
        compression: None, "GZIP" or "ZLIB" for tfrecord; "zstd" or None for array_record.
        structure: The structure of an example: the name of a feature, or `{"tuple": [structure,
            ...]}`, or `{"dict": {key: structure, ...}}`.
        features: The parts of an example, sorted by name.
        num_examples: Examples of all shards. Positive.
        split: What part of the data this is, such as "train", or None.
        class_names: Names of the classes, in the order of their numbers, or None.
        source: Description of where the examples come from, for people.
        fingerprint: Hash of the examples: `RandomAccessSource.fingerprint` of the source, or a
            description of a stream.
        key: Hash of the source and of the functions applied to it, "-", and a hash of all settings.
            Two sets with the same key have the same bytes. Empty if a function has no stable hash.
        shards: The files, in the order of their examples.
    """

    container: str
    compression: str | None
    structure: Any
    features: tuple[Feature, ...]
    num_examples: int
    split: str | None
    class_names: tuple[str, ...] | None
    source: str
    fingerprint: str
    key: str
    shards: tuple[Shard, ...]

    def to_json(self) -> str:
        """Returns the text of the file."""
        fields = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1) + "\n"


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Reads the manifest of a packed set, and checks that it is whole and consistent.

    The shards are not looked at.

    Args:
        folder: Folder of the set. Local.

    Raises:
        ManifestError: If there is no manifest, or it is damaged or of another version.
        OSError: If it cannot be read.
    """
    path = Path(folder, NAME)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ManifestError(
            f"`folder` must be a packed set. Received: {os.fspath(folder)!r}, without {NAME}. "
            "Check the path. If packing was interrupted, run it again: it continues."
        ) from error
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, path: str) -> Manifest:
    """Returns the manifest that a file contains.

    Args:
        content: The bytes of the file.
        path: Its path, for messages.

    Raises:
        ManifestError: If it is damaged or of another version.
    """
    try:
        fields = json.loads(content)
        of_format = fields["format"]
        version = fields["version"]
        checksum = fields.pop("checksum")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, "it is not complete JSON with the fields of a manifest") from error
    if of_format != FORMAT:
        raise _damaged(path, f"its format is {of_format!r}, not {FORMAT!r}")
    if version != VERSION:
        raise ManifestError(
            f"{path} is of version {version}, and this release reads version {VERSION}. Install "
            "a newer release, or pack the set again."
        )
    if checksum != _checksum(fields):
        raise _damaged(path, "its content does not match its checksum")
    try:
        manifest = _manifest(fields)
        problem = _problem(manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"a field is missing or of another type ({error})") from error
    if problem:
        raise _damaged(path, problem)
    return manifest


def write_manifest(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    """Writes the manifest of a packed set atomically. Write it last.

    Raises:
        OSError: If it cannot be written. The text names the cure.
    """
    write_whole(Path(folder, NAME), manifest.to_json())


def shard_fingerprint(path: str, container: str, compression: str | None) -> str:
    """Returns what tells a shard from another without reading it whole.

    For an uncompressed TFRecord file it is the digest of its index, which must be beside it: the
    lengths and checksums of all records. For others it is a hash of the size, the first and the
    last 64 KiB.

    Raises:
        RecordFileError: If the index is damaged or of a file of another size.
        OSError: If the file or its index cannot be read.
    """
    if (container, compression) == ("tfrecord", None):
        return read_index(index_path(path), path).digest
    with Path(path).open("rb") as file:
        first = file.read(_END_BYTES)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_BYTES))
        last = file.read(_END_BYTES)
    return hashlib.sha256(b"%d:" % size + first + last).hexdigest()


def feature_names(structure: Any) -> list[str]:
    """Returns the names of the features in a structure, in the order of `tf.nest`.

    Example:
        >>> feature_names({"tuple": [{"dict": {"b": "y", "a": "x"}}, "label"]})
        ['x', 'y', 'label']
    """
    if isinstance(structure, str):
        return [structure]
    ((kind, parts),) = structure.items()
    if kind == "tuple":
        return [name for part in parts for name in feature_names(part)]
    if kind == "dict":
        return [name for key in sorted(parts) for name in feature_names(parts[key])]
    raise ValueError(f"{kind!r} is neither 'tuple' nor 'dict'")


def _checksum(fields: dict[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest(fields: dict[str, Any]) -> Manifest:
    features = tuple(
        Feature(
            **{
                **feature,
                "shape": tuple(feature["shape"]),
                "image_size": feature["image_size"] and tuple(feature["image_size"]),
                "formats": tuple(feature["formats"]),
            }
        )
        for feature in fields["features"]
    )
    names = fields["class_names"]
    return Manifest(
        container=fields["container"],
        compression=fields["compression"],
        structure=fields["structure"],
        features=features,
        num_examples=fields["num_examples"],
        split=fields["split"],
        class_names=None if names is None else tuple(names),
        source=fields["source"],
        fingerprint=fields["fingerprint"],
        key=fields["key"],
        shards=tuple(Shard(**shard) for shard in fields["shards"]),
    )


def _problem(manifest: Manifest) -> str | None:
    """Returns what is inconsistent in a manifest, or None."""
    if manifest.compression not in COMPRESSIONS[manifest.container]:
        return f"{manifest.container} has no compression {manifest.compression!r}"
    names = [feature.name for feature in manifest.features]
    if sorted(feature_names(manifest.structure)) != names or len(set(names)) != len(names):
        return "its features are not those of its structure"
    if any(feature.encoding not in ENCODINGS for feature in manifest.features):
        return "it has a feature of an unknown encoding"
    encodings = {feature.encoding for feature in manifest.features}
    if "record" in encodings and manifest.structure != names[0]:
        return "it has a record beside other features"
    files = [shard.file for shard in manifest.shards]
    if len(set(files)) != len(files) or not all(map(_is_plain_name, files)):
        return "its shards are not distinct names of files in its folder"
    first = 0
    for shard in manifest.shards:
        if shard.first != first or shard.examples < 1 or shard.bytes < 1:
            return f"the examples of {shard.file} do not follow those before"
        first += shard.examples
    if not first or first != manifest.num_examples:
        return f"its shards have {first} examples, and it counts {manifest.num_examples}"
    return None


def _is_plain_name(name: str) -> bool:
    return re.fullmatch(r"[^/\\\0.][^/\\\0]*", name) is not None


def _damaged(path: str, problem: str) -> ManifestError:
    return ManifestError(
        f"{path} is damaged or no manifest of a packed set: {problem}. Restore it from its origin, "
        "or pack the set again."
    )
