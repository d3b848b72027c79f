"""The manifest of a checkpoint: what it holds, where each piece lies, and how to know it is whole.

A tensor is a list of slices, each a box of the tensor in a file. Today one process writes one slice
a tensor, or one a replica; state that is sharded over workers is written by several, in the same
format.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

FORMAT = "tfscale checkpoint"
VERSION = 1


class BrokenCheckpoint(Exception):
    """A checkpoint that is not whole: a file is missing, cut short, or not what was written."""


@dataclass(frozen=True)
class Position:
    """How far a training has come, counted in global batches it has consumed.

    Attributes:
        epoch: The epoch that goes on, from 0, as `fit` counts them. An int64.
        step: Batches of that epoch that are consumed. An int64.
        batches: Batches consumed in all. An int64, not `optimizer.iterations`, which skips the
            steps that loss scaling drops and counts only some of accumulated ones.
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
    """A box of a tensor, and the bytes of a file that hold it.

    Attributes:
        file: Name of the file inside the checkpoint's directory.
        offset: First byte of the slice in that file.
        start: Index of the box's first element in the tensor, one number a dimension.
        shape: Shape of the box, whose elements lie in C order, little endian.
        crc32: CRC-32 of the bytes, as zlib computes it.
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
        dtype: NumPy's name of the dtype, or ml_dtypes' ("bfloat16").
        shape: Shape of the tensor. Where `is_per_replica`, the first dimension is the replicas.
        is_per_replica: Whether each replica keeps a value of its own; the variable's is their sum.
        slices: Boxes that cover the tensor, each element once.
    """

    dtype: str
    shape: tuple[int, ...]
    is_per_replica: bool
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Manifest:
    """All that a checkpoint says of itself.

    Attributes:
        position: Where training goes on.
        topology: What it was trained on: replicas, workers, steps an epoch, order of the input.
            Restoring needs none of it; a position in mid-epoch is checked against the input.
        tensors: The tensors by their keys.
        callbacks: The state of each callback that has one, JSON values, by the callback's key.
    """

    position: Position
    topology: dict[str, Any]
    tensors: dict[str, StoredTensor]
    callbacks: dict[str, Any]

    def to_json(self) -> str:
        """Returns the text of `manifest.json`, with a checksum of its own."""
        content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        content = json.loads(json.dumps(content))  # tuples become lists, as a reader sees them
        return json.dumps({**content, "sha256": _digest(content)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads what `to_json` returned.

        Raises:
            BrokenCheckpoint: If the text is not what was written.
            ValueError: If it was written in a later version of the format.
        """
        try:
            content = json.loads(text)
            digest = content.pop("sha256")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BrokenCheckpoint(f"its manifest cannot be read ({error})") from error
        if digest != _digest(content) or content.get("format") != FORMAT:
            raise BrokenCheckpoint("its manifest is not what was written: the checksum differs")
        if content["version"] != VERSION:
            raise ValueError(
                f"`version` of a checkpoint must be {VERSION}. Received: "
                f"version={content['version']!r}. Read it with the tfscale that wrote it, or newer."
            )
        return cls(
            position=Position(**content["position"]),
            topology=content["topology"],
            tensors={key: _tensor(stored) for key, stored in content["tensors"].items()},
            callbacks=content["callbacks"],
        )


def _tensor(stored: dict[str, Any]) -> StoredTensor:
    slices = tuple(
        Slice(
            part["file"], part["offset"], tuple(part["start"]), tuple(part["shape"]), part["crc32"]
        )
        for part in stored["slices"]
    )
    return StoredTensor(
        stored["dtype"], tuple(stored["shape"]), bool(stored["is_per_replica"]), slices
    )


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
