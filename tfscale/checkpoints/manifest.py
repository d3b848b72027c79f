"""The manifest of a checkpoint: its content, the position of each piece, and checksums.

A tensor is a list of slices. Each slice is a box of the tensor in a file. Currently one process
writes one slice per tensor or per replica. State that is sharded over workers can be written by
several processes in the same format.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import reprlib
from dataclasses import dataclass
from typing import Any

from tfscale.checkpoints import schema

FORMAT = "tfscale checkpoint"
VERSION = 1
MOST_BYTES = 256 * 2**20
"""Largest size of a manifest, enough for a million slices."""
_MOST_DIMENSIONS = 32
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BrokenCheckpoint(Exception):
    """Raised if a checkpoint is damaged: a file is missing, truncated or altered."""


@dataclass(frozen=True)
class Position:
    """The progress of a training, in consumed global batches.

    Attributes:
        epoch: The current epoch, from 0 as in `fit`. An int64.
        step: Consumed batches of that epoch. An int64.
        batches: Consumed batches in total. An int64. It differs from `optimizer.iterations`, which
            omits steps that loss scaling skips and most steps of gradient accumulation.
    """

    epoch: int
    step: int
    batches: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < 2**63:
                raise ValueError(
                    f"`{name}` must be in [0, 2**63). Received: {name}={value!r}. Count batches."
                )


@dataclass(frozen=True)
class Slice:
    """A box of a tensor, and its bytes in a file.

    Attributes:
        file: Name of the file in the checkpoint's directory.
        offset: First byte of the slice in that file.
        start: Index of the box's first element in the tensor, one number per dimension.
        shape: Shape of the box. Its elements are in C order, little endian.
        crc32: CRC-32 of the bytes, as computed by zlib.
    """

    file: str
    offset: int
    start: tuple[int, ...]
    shape: tuple[int, ...]
    crc32: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the checkpoint.

    Attributes:
        dtype: Name of the dtype in NumPy or ml_dtypes ("bfloat16").
        shape: Shape of the tensor. If `is_per_replica`, the first dimension is the replicas.
        is_per_replica: Whether each replica has a separate value. The variable's value is their
            sum.
        slices: Boxes that cover each element of the tensor once.
    """

    dtype: str
    shape: tuple[int, ...]
    is_per_replica: bool
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Manifest:
    """The description of a checkpoint.

    Attributes:
        position: The position at which training continues.
        topology: Replicas, workers, steps per epoch and order of the input. It is not needed for
            restoring, but a position in mid-epoch is checked against the input.
        tensors: The tensors by key.
        callbacks: The states of callbacks as JSON values, by key.
    """

    position: Position
    topology: dict[str, Any]
    tensors: dict[str, StoredTensor]
    callbacks: dict[str, Any]

    def to_json(self) -> str:
        """Returns the text of `manifest.json` in ASCII, including its checksum.

        Raises:
            ValueError: If it is too large.
        """
        content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        content = json.loads(json.dumps(content))  # tuples become lists, as a reader sees them
        text = json.dumps({**content, "sha256": _digest(content)}, indent=1)
        if len(text) > MOST_BYTES:
            raise ValueError(
                f"`state()` of callbacks must be small: a manifest has at most {MOST_BYTES} bytes. "
                f"Received: {len(text)} bytes. Keep arrays in the variables of the model."
            )
        return text

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parses and validates what `to_json` returned.

        Raises:
            BrokenCheckpoint: If the text was altered or is not a valid manifest.
            ValueError: If it has a later version of the format.
        """
        try:
            content = json.loads(text, object_pairs_hook=_object)
            digest = schema.table(content, "manifest").pop("sha256", None)
            is_whole = digest == _digest(content)
        except (ValueError, RecursionError) as error:
            raise BrokenCheckpoint(f"its manifest cannot be read ({error})") from error
        if not is_whole or content.get("format") != FORMAT:
            raise BrokenCheckpoint("its manifest was altered: the checksum differs")
        version = content.get("version")
        if type(version) is int and version > VERSION:
            raise ValueError(
                f"`version` of a checkpoint must be {VERSION}. Received: "
                f"version={version!r}. Use the tfscale version that wrote it, or a later one."
            )
        try:
            return _manifest(content)
        except schema.Malformed as error:
            raise BrokenCheckpoint(f"its manifest is malformed: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _manifest(content: dict[str, Any]) -> Manifest:
    names = ("format", "version", *(field.name for field in dataclasses.fields(Manifest)))
    schema.record(content, "manifest", names)
    if type(content["version"]) is not int or content["version"] != VERSION:
        raise schema.malformed("version", str(VERSION), content["version"])
    position = schema.record(content["position"], "position", ("epoch", "step", "batches"))
    tensors = schema.table(content["tensors"], "tensors")
    return Manifest(
        position=Position(
            **{name: schema.integer(value, f"position.{name}") for name, value in position.items()}
        ),
        topology=_topology(schema.table(content["topology"], "topology")),
        tensors={
            key: _tensor(stored, f"tensors[{reprlib.repr(key)}]") for key, stored in tensors.items()
        },
        callbacks=schema.table(content["callbacks"], "callbacks"),
    )


def _topology(topology: dict[str, Any]) -> dict[str, Any]:
    """Validates the known entries. Unknown entries are not needed for restoring."""
    for name in ("num_replicas", "num_workers"):
        if name in topology:
            schema.integer(topology[name], f"topology.{name}", least=1)
    for name in ("steps_per_epoch", "initial_epoch"):
        if topology.get(name) is not None:
            schema.integer(topology[name], f"topology.{name}")
    for name in ("order", "keras"):
        if name in topology:
            schema.text(topology[name], f"topology.{name}")
    return topology


def _tensor(stored: Any, where: str) -> StoredTensor:
    names = ("dtype", "shape", "is_per_replica", "slices")
    fields = schema.record(stored, where, names)
    tensor = StoredTensor(
        dtype=schema.text(fields["dtype"], f"{where}.dtype"),
        shape=_lengths(fields["shape"], f"{where}.shape"),
        is_per_replica=schema.truth(fields["is_per_replica"], f"{where}.is_per_replica"),
        slices=tuple(
            _slice(part, f"{where}.slices[{i}]")
            for i, part in enumerate(schema.listed(fields["slices"], f"{where}.slices"))
        ),
    )
    if tensor.is_per_replica and not tensor.shape:
        raise schema.malformed(f"{where}.shape", "of one dimension or more", [])
    for i, part in enumerate(tensor.slices):
        dimensions = (tensor.shape, part.start, part.shape)
        if len(set(map(len, dimensions))) != 1 or any(
            start + length > whole for whole, start, length in zip(*dimensions, strict=True)
        ):
            place = f"{where}.slices[{i}]"
            raise schema.malformed(place, f"a box of the shape {tensor.shape}", part)
    return tensor


def _slice(part: Any, where: str) -> Slice:
    fields = schema.record(part, where, ("file", "offset", "start", "shape", "crc32"))
    file = schema.text(fields["file"], f"{where}.file")
    if not _FILE.fullmatch(file):
        raise schema.malformed(f"{where}.file", "a plain name of a file beside the manifest", file)
    return Slice(
        file=file,
        offset=schema.integer(fields["offset"], f"{where}.offset"),
        start=_lengths(fields["start"], f"{where}.start"),
        shape=_lengths(fields["shape"], f"{where}.shape"),
        crc32=schema.integer(fields["crc32"], f"{where}.crc32"),
    )


def _lengths(value: Any, where: str) -> tuple[int, ...]:
    lengths = schema.listed(value, where)
    if len(lengths) > _MOST_DIMENSIONS:
        raise schema.malformed(where, f"of at most {_MOST_DIMENSIONS} dimensions", lengths)
    return tuple(schema.integer(length, f"{where}[{i}]") for i, length in enumerate(lengths))


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
