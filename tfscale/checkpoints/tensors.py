"""Arrays in and out of a checkpoint's data files, slice by slice, with checksums."""

from __future__ import annotations

import reprlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from tfscale.checkpoints.dtypes import dtype_named, is_known
from tfscale.checkpoints.layout import box_of
from tfscale.checkpoints.manifest import BrokenCheckpoint, Slice, StoredTensor

_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Values:
    """A variable's value in memory.

    Attributes:
        array: The value. Where `is_per_replica`, one value a replica along the first dimension.
        is_per_replica: Whether each replica keeps a value of its own; the variable's is their sum.
    """

    array: np.ndarray[Any, Any]
    is_per_replica: bool = False


def write_tensors(
    file: BinaryIO, name: str, tensors: Mapping[str, Values]
) -> dict[str, StoredTensor]:
    """Writes tensors one after another; returns where they lie.

    Args:
        file: Opened for writing, at its beginning.
        name: Its name inside the checkpoint's directory.
        tensors: The values by their keys.

    Raises:
        ValueError: If one is not of numbers, and could not be read back.
    """
    offset = 0
    stored = {}
    for key, values in tensors.items():
        # Not ascontiguousarray, which makes one dimension of none.
        array = np.asarray(values.array, order="C")
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        dtype = array.dtype.name
        if not is_known(dtype):
            raise ValueError(
                f"`tensors` must be of numbers. Received: {key!r} of {dtype}. Keep other state in "
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
    """Puts a tensor together from its slices.

    Args:
        key: The tensor's key, for messages.
        stored: Where it lies; `check_layout` has passed it.
        open_file: Returns a file of the checkpoint by its name, opened for reading.

    Raises:
        BrokenCheckpoint: If a byte of it is not what was written.
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
            raise BrokenCheckpoint(
                f"{part.file} is cut short: {reprlib.repr(key)} is not all there"
            )
        checksum = zlib.crc32(data, checksum)
        view[done : done + len(data)] = data
        done += len(data)
    if checksum != part.crc32:
        raise BrokenCheckpoint(
            f"{part.file} is damaged: the checksum of {reprlib.repr(key)} differs"
        )
    if box.dtype == bool and numbers.max(initial=0) > 1:
        raise BrokenCheckpoint(
            f"{part.file} holds a truth value of {reprlib.repr(key)} that is not 0 or 1"
        )


def _boxes(
    shape: tuple[int, ...], is_per_replica: bool
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    rest = (0,) * (len(shape) - 1)
    if is_per_replica:
        return [((replica, *rest), (1, *shape[1:])) for replica in range(shape[0])]
    return [((0,) * len(shape), shape)]
