"""Reads the message `tf.train.Example` without TensorFlow.

    Example  { Features features = 1 }
    Features { map<string, Feature> feature = 1 }
    Feature  { BytesList bytes_list = 1, FloatList float_list = 2 or Int64List int64_list = 3 }

A list has the field `value = 1`. Numbers are packed into one such field, or it is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Values = list[bytes] | np.ndarray
_VARINT, _LENGTH, _FIXED32 = 0, 2, 5  # wire types


def example_values(record: bytes) -> dict[str, Values] | None:
    """Returns the features of a `tf.train.Example` by name.

    Args:
        record: A serialized message, or something else.

    Returns:
        `bytes`, or float32 [n] or int64 [n]. None if the record is no such message, or has a field
        that it does not have, or no feature.

    Example:
        >>> example_values(b"no message") is None
        True
    """
    try:
        found: dict[str, Values] = {}
        for features in _contents(record, 1):
            for entry in _contents(features, 1):
                (key, name), (value, feature) = _fields(entry)
                if (key, value) != ((1, _LENGTH), (2, _LENGTH)):
                    return None
                found[name.decode()] = _values(feature)
    except (ValueError, IndexError):
        return None
    return found or None


def _values(feature: bytes) -> Values:
    fields = list(_fields(feature))
    if not fields:
        return []
    (((number, kind), listed),) = fields  # else ValueError, as everywhere here
    if kind != _LENGTH or number not in (1, 2, 3):
        raise ValueError(f"field {number}")
    if number == 1:
        return list(_contents(listed, 1))
    single = _FIXED32 if number == 2 else _VARINT
    packed = []
    for tag, content in _fields(listed):
        if tag not in ((1, single), (1, _LENGTH)):
            raise ValueError(f"field {tag}")
        packed.append(content)
    values = b"".join(packed)
    return np.frombuffer(values, "<f4") if number == 2 else _varints(values)


def _contents(message: bytes, wanted: int) -> Iterator[bytes]:
    """Yields the content of each field, all of which must have one number and variable length."""
    for tag, content in _fields(message):
        if tag != (wanted, _LENGTH):
            raise ValueError(f"field {tag}")
        yield content


def _fields(message: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yields number and wire type, and the content of each field."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        start = place
        if tag & 7 == _VARINT:
            _, place = _varint(message, place)
        elif tag & 7 == _LENGTH:
            size, start = _varint(message, place)
            place = start + size
        elif tag & 7 == _FIXED32:
            place += 4
        else:  # types that no field of these messages has
            raise ValueError("no message")
        if place > len(message):
            raise ValueError("no message")
        yield (tag >> 3, tag & 7), message[start:place]


def _varint(message: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, place
    raise ValueError("no message")


def _varints(packed: bytes) -> np.ndarray:
    numbers, place = [], 0
    while place < len(packed):
        number, place = _varint(packed, place)
        numbers.append(number)
    return np.array(numbers, np.uint64).astype(np.int64)
