"""JSON lines: files of which every line is an example in JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data.sources.line_files import TextReader
from tfscale.data.sources.reading import ReadSource
from tfscale.records.paths import Files

_EXACT = 2**53
_TYPES = {bool: "bool", int: "int64", float: "float64", str: "string"}
_EMPTY = ""


def json_lines(files: Files) -> ReadSource:
    r"""Returns the lines of JSON files as a source.

    An example has the structure of a line. Integers become int64, numbers float64, true and false
    bool, texts strings, objects dicts, and lists arrays. A list may have a different length in each
    line; it is then a ragged part. All lines are parsed once here, which finds the types, and must
    have the same keys.

    Args:
        files: A file, a pattern such as "part-*.jsonl", or a list of them, in UTF-8. Remote
            files are copied first: see `local_copies`.

    Raises:
        ValueError: If a file is missing, or a line is no JSON, has a null, other keys or other
            types than the lines before. Reading a file that has changed raises
            `tf.errors.InvalidArgumentError`.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "a.jsonl")
        >>> _ = path.write_text('{"text": "a", "ids": [1, 2]}\n{"text": "b", "ids": []}\n')
        >>> batch = json_lines(path).take(tf.constant([1, 0], tf.int64))
        >>> batch["text"].numpy(), batch["ids"].to_list()
        (array([b'b', b'a'], dtype=object), [[], [1, 2]])
    """
    return ReadSource(JsonReader(files))


class JsonReader:
    """Reads lines of JSON: see `Reader` and `json_lines`."""

    def __init__(self, files: Files) -> None:
        """See `json_lines`."""
        self._kind: _Kind | dict[str, Any] | None = None
        self._lines = TextReader(files, self._see)
        self.num_examples = self._lines.num_examples
        self.fingerprint = f"json {self._lines.fingerprint}"
        self.element_spec = _spec(self._kind)

    def read(self, indices: np.ndarray) -> Any:
        """Returns the examples at `indices`, int64 [n]."""
        values = [json.loads(line) for line in self._lines.read(indices)]
        return _columns(values, self.element_spec)

    def _see(self, path: str, number: int, line: bytes) -> None:
        try:
            self._kind = _with(self._kind, json.loads(line), "")
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"`files` must have an example in JSON in every line, all alike. Received: line "
                f"{number} of {path}: {error}. Correct or remove it."
            ) from error


@dataclass
class _Kind:
    """What the values of a part have in common.

    Attributes:
        dtype: Their type; `_EMPTY` if no list has had an element.
        shape: Their shape; the first dimension is None if it differs.
        largest: The largest absolute value of an integer.
    """

    dtype: str
    shape: tuple[int | None, ...]
    largest: int = field(default=0)


def _with(kind: Any, value: Any, path: str) -> Any:
    """Returns what the values of a part have in common, one more included."""
    where = f"part {path}" if path else "it"
    if isinstance(value, dict):
        if kind is not None and (not isinstance(kind, dict) or kind.keys() != value.keys()):
            known = ", ".join(kind) if isinstance(kind, dict) else "no keys"
            raise ValueError(f"{where} has the keys {', '.join(value)}, and before {known}")
        return {
            key: _with(kind[key] if kind else None, part, f"{path}[{key!r}]")
            for key, part in value.items()
        }
    new = _kind_of(value, where)
    if kind is None:
        return new
    if isinstance(kind, dict):
        raise ValueError(f"{where} is no object, and before it was one")
    dtypes = {kind.dtype, new.dtype} - {_EMPTY}
    largest = max(kind.largest, new.largest)
    if dtypes == {"int64", "float64"}:
        if largest > _EXACT:
            raise ValueError(f"{where} has integers above 2**53 and fractions: no type has both")
        dtypes = {"float64"}
    if len(dtypes) > 1:
        raise ValueError(f"{where} is {new.dtype}, and before {kind.dtype}")
    return _Kind(next(iter(dtypes), _EMPTY), _common(kind.shape, new.shape, where), largest)


def _kind_of(value: Any, where: str) -> _Kind:
    """Describes one value: a number, a text, or a list of them."""
    if not isinstance(value, list):
        dtype = _TYPES.get(type(value))
        if dtype is None:
            raise ValueError(f"{where} is {'null' if value is None else type(value).__name__}")
        largest = abs(value) if dtype == "int64" else 0
        if largest and not -(2**63) <= value < 2**63:
            raise ValueError(f"{where} is {value}, which is no int64")
        return _Kind(dtype, (), largest)
    kind: Any = None
    for part in value:
        if isinstance(part, dict):
            raise ValueError(f"{where} is a list of objects. Use an object of lists")
        kind = _with(kind, part, "")
    if kind is None:
        return _Kind(_EMPTY, (0,))
    if None in kind.shape:
        raise ValueError(f"{where} is a list of lists of different lengths")
    return _Kind(kind.dtype, (len(value), *kind.shape), kind.largest)


def _common(
    shape: tuple[int | None, ...], other: tuple[int | None, ...], where: str
) -> tuple[int | None, ...]:
    if shape == other:
        return shape
    if shape and other:
        if 0 in (shape[0], other[0]) and len(shape) != len(other):  # an empty list, of any
            return (None, *max(shape, other, key=len)[1:])
        if shape[1:] == other[1:]:
            return (None, *shape[1:])
    raise ValueError(f"{where} has the shape {other}, and before {shape}")


def _spec(kind: Any) -> Any:
    if isinstance(kind, dict):
        return {key: _spec(part) for key, part in kind.items()}
    return tf.TensorSpec(kind.shape, kind.dtype or "float64")


def _columns(values: list[Any], spec: Any) -> Any:
    """Returns a structure of columns of a list of values."""
    if isinstance(spec, dict):
        return {key: _columns([value[key] for value in values], spec[key]) for key in spec}
    if spec.dtype == tf.string:
        dtype: Any = object
        values = [_encoded(value) for value in values]
    else:
        dtype = spec.dtype.as_numpy_dtype
    if spec.shape.rank and spec.shape[0] is None:
        return [np.array(value, dtype).reshape(-1, *spec.shape[1:]) for value in values]
    return np.array(values, dtype).reshape(len(values), *spec.shape)


def _encoded(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else [_encoded(part) for part in value]
