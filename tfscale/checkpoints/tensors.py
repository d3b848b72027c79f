"""Writes arrays to a checkpoint's data files and reads them, slice by slice, with checksums."""

from __future__ import annotations

import itertools
import math
import reprlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from tfscale.checkpoints.manifest import BrokenCheckpoint, Slice, StoredTensor

_KINDS = "biufc"
"""Booleans, integers, floats and complex numbers, whose bytes contain no pointers."""


def dtype_named(name: str) -> np.dtype[Any]:
    """Returns a numeric dtype by name, including those of ml_dtypes.

    Raises:
        BrokenCheckpoint: If there is no numeric dtype of this name.

    Example:
        >>> dtype_named("bfloat16").itemsize
        2
    """
    found = _found(name)
    if found is None:
        raise BrokenCheckpoint(f"there is no numeric dtype {name[:40]!r}")
    return found


def is_known(name: str) -> bool:
    """Returns whether there is a numeric dtype of this name."""
    return _found(name) is not None


def _found(name: str) -> np.dtype[Any] | None:
    kind = np.sctypeDict.get(name) or _of_ml_dtypes(name)
    if not isinstance(kind, type) or not issubclass(kind, np.generic):
        return None
    dtype: np.dtype[Any] = np.dtype(kind)
    is_of_numbers = dtype.kind in _KINDS or kind.__module__ == "ml_dtypes"
    return dtype if dtype.name == name and is_of_numbers else None


def _of_ml_dtypes(name: str) -> Any:
    import ml_dtypes  # comes with TensorFlow

    return vars(ml_dtypes).get(name)


def check_layout(tensors: Mapping[str, StoredTensor], size_of: Callable[[str], int]) -> None:
    """Checks that the files contain all slices, and that the slices cover the tensors.

    This runs before any byte is read or any tensor is allocated. A manifest may come from somebody
    else, so a checkpoint must never need more memory than it has bytes.

    Args:
        tensors: The tensors by key. Each slice is a box of its tensor.
        size_of: Returns the size of a file of the checkpoint in bytes.

    Raises:
        BrokenCheckpoint: If bytes are missing or belong to two slices, or if slices overlap or
            leave a gap.
    """
    ranges: dict[str, list[tuple[int, int, str]]] = {}
    for key, stored in tensors.items():
        item = dtype_named(stored.dtype).itemsize
        if math.prod(max(length, 1) for length in stored.shape) * item >= 2**63:
            raise BrokenCheckpoint(f"{_short(key)} has the impossible shape {stored.shape}")
        for part in stored.slices:
            end = part.offset + math.prod(part.shape) * item
            ranges.setdefault(part.file, []).append((part.offset, end, key))
    for file, found in ranges.items():
        size = size_of(file)
        filled = sorted(one for one in found if one[0] < one[1])
        for _, end, key in found:
            if end > size:
                raise BrokenCheckpoint(f"{file} is truncated: {_short(key)} is incomplete")
        for (_, end, first), (start, _, second) in itertools.pairwise(filled):
            if start < end:
                raise BrokenCheckpoint(
                    f"bytes of {file} belong to two slices, of {_short(first)} and {_short(second)}"
                )
    for key, stored in tensors.items():
        _check_cover(key, stored)


def _check_cover(key: str, stored: StoredTensor) -> None:
    parts = [part for part in stored.slices if math.prod(part.shape)]
    covered, size = sum(math.prod(part.shape) for part in parts), math.prod(stored.shape)
    if covered != size:
        raise BrokenCheckpoint(f"the slices of {_short(key)} have {covered} of {size} elements")
    if len(parts) < 2 or _lie_in_a_row(parts, stored.shape):
        return
    taken = np.zeros(stored.shape, bool)  # fewer bytes than the files have
    for part in parts:
        box = box_of(part)
        if taken[box].any():
            raise BrokenCheckpoint(f"the slices of {_short(key)} overlap")
        taken[box] = True


def _lie_in_a_row(parts: list[Slice], shape: tuple[int, ...]) -> bool:
    """Returns whether the boxes divide only the first dimension, and follow each other."""
    first = 0
    for part in parts:
        if part.start[:1] != (first,) or part.shape[1:] != shape[1:]:
            return False
        first += part.shape[0]
    return True


def box_of(part: Slice) -> tuple[slice, ...]:
    """Returns the index of a slice's elements in its tensor."""
    return tuple(
        slice(first, first + length) for first, length in zip(part.start, part.shape, strict=True)
    )


def _short(key: str) -> str:
    return reprlib.repr(key)


_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Values:
    """A variable's value in memory.

    Attributes:
        array: The value. If `is_per_replica`, one value per replica along the first dimension.
        is_per_replica: Whether each replica has a separate value. The variable's value is their
            sum.
    """

    array: np.ndarray[Any, Any]
    is_per_replica: bool = False


def write_tensors(
    file: BinaryIO, name: str, tensors: Mapping[str, Values]
) -> dict[str, StoredTensor]:
    """Writes tensors one after another and returns their descriptions.

    Args:
        file: A new file, open for writing.
        name: Its name in the checkpoint's directory.
        tensors: The values by key.

    Raises:
        ValueError: If a tensor is not numeric.
    """
    offset = 0
    stored = {}
    for key, values in tensors.items():
        # Not ascontiguousarray, which adds a dimension to scalars.
        array = np.asarray(values.array, order="C")
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        dtype = array.dtype.name
        if not is_known(dtype):
            raise ValueError(
                f"`tensors` must be numeric. Received: {key!r} of {dtype}. Keep other state in "
                "the callbacks' `state()`."
            )
        boxes = _boxes(array.shape, values.is_per_replica)
        slices = []
        for start, shape in boxes:
            box = array[start[0] : start[0] + 1] if values.is_per_replica else array
            data: Any = memoryview(box.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
            checksum = 0
            for first in range(0, len(data), _CHUNK_BYTES):
                chunk = data[first : first + _CHUNK_BYTES]
                checksum = zlib.crc32(chunk, checksum)
                file.write(chunk)
            slices.append(Slice(name, offset, start, shape, checksum))
            offset += len(data)
        stored[key] = StoredTensor(dtype, array.shape, values.is_per_replica, tuple(slices))
    return stored


def read_tensor(key: str, stored: StoredTensor, open_file: Callable[[str], BinaryIO]) -> Values:
    """Reads a tensor from its slices.

    Args:
        key: The tensor's key, for messages.
        stored: Its description, which `check_layout` has accepted.
        open_file: Returns a file of the checkpoint by name, open for reading.

    Raises:
        BrokenCheckpoint: If its bytes were altered.
    """
    array = np.empty(stored.shape, dtype_named(stored.dtype))
    for part in stored.slices:
        is_all = part.shape == stored.shape
        box = array if is_all else np.empty(part.shape, array.dtype)
        _fill(box, part, open_file(part.file), key)
        if not is_all:
            array[box_of(part)] = box
    return Values(array, stored.is_per_replica)


def _fill(box: np.ndarray[Any, Any], part: Slice, file: BinaryIO, key: str) -> None:
    numbers = box.reshape(-1).view(np.uint8)
    view: Any = memoryview(numbers)  # type: ignore[arg-type]
    done = checksum = 0
    if len(view):
        file.seek(part.offset)
    while done < len(view):
        data = file.read(min(_CHUNK_BYTES, len(view) - done))
        if not data:
            raise BrokenCheckpoint(f"{part.file} is truncated: {reprlib.repr(key)} is incomplete")
        checksum = zlib.crc32(data, checksum)
        view[done : done + len(data)] = data
        done += len(data)
    if checksum != part.crc32:
        raise BrokenCheckpoint(
            f"{part.file} is damaged: the checksum of {reprlib.repr(key)} differs"
        )
    if box.dtype == bool and numbers.max(initial=0) > 1:
        raise BrokenCheckpoint(
            f"{part.file} has a boolean of {reprlib.repr(key)} that is not 0 or 1"
        )


def _boxes(
    shape: tuple[int, ...], is_per_replica: bool
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    rest = (0,) * (len(shape) - 1)
    if is_per_replica:
        return [((replica, *rest), (1, *shape[1:])) for replica in range(shape[0])]
    return [((0,) * len(shape), shape)]
