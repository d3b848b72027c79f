"""Examples as the bytes of `tf.train.Example`, without loss and always the same bytes.

The bytes are written here, and not by the library of protocol buffers: packing makes one record for
each example, and an interrupted pack must end with the same bytes also under another release of
that library, which promises no order of the features. Here they are sorted by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.records.manifest import Feature

_FLAT = "value"
"""Name of the feature of an example that is one tensor."""
_RAW = (
    "bfloat16",
    "bool",
    "complex128",
    "complex64",
    "float16",
    "float64",
    "int16",
    "int8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
)
_SMALL_INTEGERS = ("bool", "int16", "int8", "uint16", "uint32", "uint8")

_Message = tuple[bytes, bytes | memoryview]
_Lists = Callable[[Sequence[Any]], list[_Message]]
"""Maps the values of a feature of n examples to n messages `Feature`, each as head and content."""

_LARGE = 1 << 16

# Field numbers and wire types of the messages Example, Features, Feature and its lists.
_FIRST, _SECOND, _THIRD = b"\x0a", b"\x12", b"\x1a"


def described(element_spec: Any) -> tuple[Any, tuple[Feature, ...]]:
    """Returns how examples are stored.

    Numbers are stored as what other programs expect in a `tf.train.Example`, if that loses nothing
    and is not larger: int32, int64 and single integers as an `int64_list`, float32 as a
    `float_list`. Everything else is its little-endian bytes, such as the pixels of an image.

    Args:
        element_spec: Structure of `tf.TensorSpec` of one example. The first dimension of a part may
            be None.

    Returns:
        The structure and the features of a `Manifest`.

    Raises:
        ValueError: If a part has another unknown dimension or a type that cannot be stored, or a
            key of a dict is not text.
    """
    features: list[Feature] = []
    structure = _structure(element_spec, (), features)
    return structure, tuple(sorted(features, key=lambda feature: feature.name))


def _structure(spec: Any, path: tuple[str, ...], features: list[Feature]) -> Any:
    if isinstance(spec, dict):
        if not all(isinstance(key, str) for key in spec):
            raise ValueError(
                "`source` must have examples whose dicts have keys of text. Received: keys "
                f"{list(spec)!r}. Rename them with preprocess=."
            )
        keys = sorted(spec)
        return {"dict": {key: _structure(spec[key], (*path, key), features) for key in keys}}
    if isinstance(spec, (tuple, list)):
        parts = [_structure(part, (*path, str(i)), features) for i, part in enumerate(spec)]
        return {"tuple": parts}
    # As in a JSON pointer, so that no two parts share a name.
    name = "/".join(key.replace("~", "~0").replace("/", "~1") for key in path) if path else _FLAT
    features.append(_feature(name, spec))
    return name


def _feature(name: str, spec: Any) -> Feature:
    is_tensor = isinstance(spec, tf.TensorSpec) and spec.shape.rank is not None
    shape = tuple(spec.shape) if is_tensor else ()
    is_ragged = shape[:1] == (None,)
    if not is_tensor or None in shape[1:] or (is_ragged and 0 in shape[1:]):
        raise ValueError(
            "`source` must have examples of tensors of which at most the first dimension differs. "
            f"Received: {spec} for part {name!r}. Give all one shape, such as with "
            "tf.image.resize, Dataset.map, RaggedTensor.to_tensor or tf.sparse.to_dense."
        )
    dtype = spec.dtype.name
    if dtype in ("int32", "int64") or (dtype in _SMALL_INTEGERS and not shape):
        return Feature(name, dtype, shape, "int64")
    if dtype == "float32":
        return Feature(name, dtype, shape, "float")
    if dtype == "string":
        return Feature(name, dtype, shape, "string")
    if dtype in _RAW:
        return Feature(name, dtype, shape, "raw")
    raise ValueError(
        f"`source` must have examples of numbers and strings. Received: {dtype} for part "
        f"{name!r}. Convert it with preprocess=, for instance with tf.cast."
    )


class Encoder:
    """Makes the record of every example of a batch.

    Example:
        >>> structure, features = described({"x": tf.TensorSpec([2], tf.int64)})
        >>> (record,) = Encoder(features).records({"x": np.array([[1, 300]])})
        >>> tf.train.Example.FromString(record).features.feature["x"].int64_list.value
        [1, 300]
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        """Makes an encoder.

        Args:
            features: How examples are stored, sorted by name.
        """
        parts: list[tuple[bytes, str, _Lists]] = []
        for feature in features:
            key = feature.name.encode()
            if feature.encoding == "image":
                parts.append((key, feature.name, _raw))
                parts.append((key + b"/format", f"{feature.name}/format", _raw))
            else:
                parts.append((key, feature.name, _LISTS[feature.encoding]))
        parts.sort(key=lambda part: part[0])
        self._parts = [(_field(_FIRST, key), name, lists) for key, name, lists in parts]

    def records(self, columns: Mapping[str, Any]) -> list[bytes]:
        """Returns the records of a batch.

        Args:
            columns: For the name of each feature the values of n examples: an array [n, *shape], or
                n arrays. Strings are `object` with `bytes`. For an image n `bytes`, and the
                formats, n `bytes` too, under its name and "/format".
        """
        keys = [key for key, _, _ in self._parts]
        values = [lists(columns[name]) for _, name, lists in self._parts]
        return [_record(keys, row) for row in zip(*values, strict=True)]


def _record(keys: Sequence[bytes], values: Sequence[_Message]) -> bytes:
    """Returns the message `Example`, of which large parts are copied once."""
    pieces: list[bytes | memoryview] = [b""]
    size = 0
    for key, (head, content) in zip(keys, values, strict=True):
        middle = key + _head(_SECOND, len(head) + len(content)) + head
        outer = _head(_FIRST, len(middle) + len(content))
        pieces += (outer, middle, content)
        size += len(outer) + len(middle) + len(content)
    pieces[0] = _head(_FIRST, size)
    return b"".join(pieces)


def _field(tag: bytes, content: bytes) -> bytes:
    """Returns a field of variable length."""
    return _head(tag, len(content)) + content


def _head(tag: bytes, size: int) -> bytes:
    """Returns what is before the content of a field."""
    return tag + _varint(size)


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _BYTES[number]
    pieces = []
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*pieces, number])


_BYTES = [bytes([value]) for value in range(256)]


def _varints(numbers: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Returns integers [n] one after the other, and the bytes that each takes."""
    left = numbers.astype(np.int64).view(np.uint64)
    largest = int(left.max()) if len(left) else 0
    if largest < 0x80:
        return left.astype(np.uint8).tobytes(), np.ones(len(left), np.int64)
    places = np.arange(-(-largest.bit_length() // 7))
    shifts = (7 * places).astype(np.uint64)
    pieces, sizes = [], []
    for start in range(0, len(left), 1 << 14):  # each takes several words here, so not all at once
        shifted = left[start : start + (1 << 14), np.newaxis] >> shifts
        last = np.count_nonzero(shifted[:, 1:], axis=1)
        more = last[:, np.newaxis] > places
        groups = (shifted & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
        pieces.append(groups[last[:, np.newaxis] >= places].tobytes())
        sizes.append(last + 1)
    return b"".join(pieces), np.concatenate(sizes)


def _int64_lists(column: Sequence[Any]) -> list[_Message]:
    rows = [np.asarray(value).reshape(-1) for value in column]
    packed, sizes = _varints(np.concatenate(rows) if rows else np.zeros(0, np.int64))
    ends = np.concatenate([[0], np.cumsum(sizes)])[np.cumsum([0, *map(len, rows)])].tolist()
    return [_packed(_THIRD, packed[start:end]) for start, end in itertools.pairwise(ends)]


def _float_lists(column: Sequence[Any]) -> list[_Message]:
    return [_packed(_SECOND, _bytes(value)) for value in column]


def _packed(tag: bytes, values: bytes | memoryview) -> _Message:
    inner = _head(_FIRST, len(values)) if values else b""
    return _head(tag, len(inner) + len(values)) + inner, values


def _bytes_lists(column: Sequence[Any]) -> list[_Message]:
    texts = [np.asarray(value, object).reshape(-1) for value in column]
    joined = [b"".join(_field(_FIRST, bytes(text)) for text in part) for part in texts]
    return [(_head(_FIRST, len(content)), content) for content in joined]


def _raw(column: Sequence[Any]) -> list[_Message]:
    """Returns lists of one text, which is the bytes of a value."""
    texts = [value if isinstance(value, bytes) else _bytes(value) for value in column]
    return [_packed_text(text) for text in texts]


def _packed_text(text: bytes | memoryview) -> _Message:
    inner = _head(_FIRST, len(text))
    return _head(_FIRST, len(inner) + len(text)) + inner, text


def _bytes(value: Any) -> bytes | memoryview:
    """Returns numbers as TensorFlow has them in memory."""
    array = np.ascontiguousarray(value).reshape(-1)
    return array.tobytes() if array.nbytes < _LARGE else array.view(np.uint8).data


_LISTS: dict[str, _Lists] = {
    "int64": _int64_lists,
    "float": _float_lists,
    "string": _bytes_lists,
    "raw": _raw,
}
