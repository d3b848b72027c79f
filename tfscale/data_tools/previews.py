"""Examples as a person looks at them: images, numbers and text. Without TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfscale.records.example_message import Values, example_values
from tfscale.records.manifest import Feature, Manifest

_FORMATS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n": "PNG", b"GIF8": "GIF", b"BM": "BMP"}
_SMALLEST = 4  # pixels of a side of an array that may be an image
_MOST_VALUES = 6
_MOST_LETTERS = 80


@dataclass(frozen=True, eq=False)
class Value:
    """One part of an example.

    Attributes:
        name: Its name.
        text: Its value, or what it is; one line.
        kind: "int64", "float" or "bytes", as it is stored.
        image: The bytes of an image file; or pixels [height, width, channels]; or None.
    """

    name: str
    text: str
    kind: str
    image: bytes | np.ndarray | None = None


def previewed(record: bytes, manifest: Manifest | None = None) -> list[Value]:
    """Returns the parts of an example.

    Args:
        record: The bytes of its record: a `tf.train.Example`, or anything else, which is one part
            called "record".
        manifest: Manifest of its set, which says what the values are; None if unknown.

    Example:
        >>> [value] = previewed(b"a line of text")
        >>> value.name, value.text
        ('record', 'a line of text')
    """
    lists = example_values(record)
    if lists is None:
        return [_of_bytes("record", record)]
    if manifest is None or any(feature.encoding == "record" for feature in manifest.features):
        return [_of_list(name, values) for name, values in sorted(lists.items())]
    label = _label_feature(manifest)
    return [_of_feature(feature, lists, manifest, label) for feature in manifest.features]


def _label_feature(manifest: Manifest) -> str | None:
    """Returns the name of the feature that is the number of a class, if it is clear which."""
    numbers = [
        feature.name
        for feature in manifest.features
        if feature.encoding == "int64" and not feature.shape
    ]
    return numbers[0] if len(numbers) == 1 else None


def _of_feature(
    feature: Feature, lists: Mapping[str, Values], manifest: Manifest, label: str | None
) -> Value:
    name, values = feature.name, lists.get(feature.name, [])
    if feature.encoding in ("image", "string"):
        return _of_list(name, values)
    try:
        if isinstance(values, list):
            array, kind = np.frombuffer(b"".join(values), _dtype(feature.dtype)), "bytes"
        else:
            array, kind = values, "int64" if values.dtype.kind == "i" else "float"
        array = array.reshape([-1 if size is None else size for size in feature.shape])
    except ValueError:  # the record is not what the manifest says
        return _of_list(name, values)
    names = manifest.class_names or ()
    if name == label and 0 <= int(array) < len(names):
        return Value(name, f"{int(array)} ({names[int(array)]})", kind)
    image = _pixels(array)
    shape = "x".join(map(str, array.shape))
    return Value(
        name, _numbers(array) if image is None else f"{feature.dtype} {shape}", kind, image
    )


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401  NumPy knows the name once Keras's package is imported
    return np.dtype(name)


def _of_list(name: str, values: Values) -> Value:
    if not isinstance(values, list):
        return Value(name, _numbers(values), "float" if values.dtype.kind == "f" else "int64")
    if len(values) == 1:
        return _of_bytes(name, values[0])
    shown = ", ".join(_text(value) for value in values[:_MOST_VALUES])
    return Value(name, _shortened(shown, len(values)), "bytes")


def _of_bytes(name: str, content: bytes) -> Value:
    for start, of_format in _FORMATS.items():
        if content.startswith(start) and len(content) > 32:
            text = f"{of_format} image, {len(content):,} bytes"
            return Value(name, text, "bytes", content)
    return Value(name, _text(content), "bytes")


def _pixels(array: np.ndarray) -> np.ndarray | None:
    """Returns an array that has the shape of an image, with channels; else None."""
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or min(array.shape[:2]) < _SMALLEST:
        return None
    return array if array.dtype.kind in "uif" and np.isfinite(array).all() else None


def _numbers(array: np.ndarray) -> str:
    shown = ", ".join(_number(value) for value in array.reshape(-1)[:_MOST_VALUES].tolist())
    return _shortened(shown, array.size)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _shortened(shown: str, count: int) -> str:
    return f"{shown}, … ({count:,} values)" if count > _MOST_VALUES else shown or "empty"


def _text(content: bytes) -> str:
    try:
        line = " ".join(content.decode().split())
    except UnicodeDecodeError:
        return f"{len(content):,} bytes"
    if not line.isprintable():
        return f"{len(content):,} bytes"
    return line if len(line) <= _MOST_LETTERS else line[: _MOST_LETTERS - 1] + "…"
