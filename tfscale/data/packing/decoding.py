"""Examples of a packed set from the bytes of their records, in a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfscale.data.sources.image_decoding import ImageDecoding
from tfscale.records.manifest import Feature, Manifest


def parsed(serialized: tf.Tensor, manifest: Manifest) -> Any:
    """Returns a batch of examples as they were packed.

    Args:
        serialized: Records, string [n].
        manifest: The set that they belong to.

    Returns:
        The structure of an example, of `tf.Tensor` [n, *shape], or `tf.RaggedTensor` of n rows for
        parts of different lengths. If n is static, so are the rows of the tensors.
    """
    specs: dict[str, Any] = {}
    for feature in manifest.features:
        specs |= _specs(feature)
    if not specs:
        return serialized
    found = tf.io.parse_example(serialized, specs)
    parts = {
        feature.name: _value(feature, found, serialized.shape[0]) for feature in manifest.features
    }
    return _in_structure(manifest.structure, parts)


def images_decoded(examples: Any, manifest: Manifest) -> Any:
    """Returns one example of `parsed` with the pixels of its images.

    Args:
        examples: An example whose images are pairs of bytes and format.
        manifest: The set that it belongs to.
    """
    return _decoded(manifest.structure, {f.name: f for f in manifest.features}, examples)


def has_images(manifest: Manifest) -> bool:
    """Returns whether examples of a set must be decoded one by one."""
    return any(feature.encoding == "image" for feature in manifest.features)


def _specs(feature: Feature) -> dict[str, Any]:
    """Returns what `tf.io.parse_example` must look for. Nothing if the record is the example."""
    if feature.encoding == "record":
        return {}
    text = tf.io.FixedLenFeature([], tf.string)
    if feature.encoding == "image":
        return {feature.name: text, f"{feature.name}/format": text}
    if feature.encoding == "raw":
        return {feature.name: text}
    dtype = {"int64": tf.int64, "float": tf.float32, "string": tf.string}[feature.encoding]
    if feature.shape[:1] == (None,):
        return {feature.name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)}
    return {feature.name: tf.io.FixedLenFeature(feature.shape, dtype)}


def _value(feature: Feature, found: dict[str, Any], rows: int | None) -> Any:
    value = found[feature.name]
    if feature.encoding == "image":
        images, formats = value, found[f"{feature.name}/format"]
        return tf.ensure_shape(images, [rows]), tf.ensure_shape(formats, [rows])
    if feature.shape[:1] == (None,):
        ragged = _ragged(feature, value)
        ragged.row_splits.set_shape([None if rows is None else rows + 1])
        return ragged
    if feature.encoding == "raw":
        flat = tf.io.decode_raw(value, tf.uint8)
        value = tf.reshape(_of_bytes(flat, feature), [tf.size(value), *feature.shape])
    value = tf.cast(value, feature.dtype)
    value.set_shape([rows, *feature.shape])
    return value


def _ragged(feature: Feature, value: Any) -> tf.RaggedTensor:
    inner = [int(size or 0) for size in feature.shape[1:]]
    if feature.encoding == "raw":
        size = math.prod(inner) * tf.as_dtype(feature.dtype).size
        lengths = tf.strings.length(value) // size
        flat = tf.io.decode_raw(tf.strings.reduce_join(value), tf.uint8)
        values = _of_bytes(flat, feature)
    else:
        lengths, values = value.row_lengths() // math.prod(inner), value.values
    values = tf.reshape(tf.cast(values, feature.dtype), [-1, *inner])
    return tf.RaggedTensor.from_row_lengths(values, tf.cast(lengths, tf.int64), validate=False)


def _of_bytes(flat: tf.Tensor, feature: Feature) -> tf.Tensor:
    """Returns uint8 [..., n * itemsize] as numbers of a type [m]."""
    dtype = tf.as_dtype(feature.dtype)
    if dtype.size == 1:
        return flat if dtype in (tf.uint8, tf.bool) else tf.bitcast(flat, dtype)
    return tf.bitcast(tf.reshape(flat, [-1, dtype.size]), dtype)


def _in_structure(structure: Any, parts: dict[str, Any]) -> Any:
    if isinstance(structure, str):
        return parts[structure]
    if "tuple" in structure:
        return tuple(_in_structure(part, parts) for part in structure["tuple"])
    return {key: _in_structure(part, parts) for key, part in structure["dict"].items()}


def _decoded(structure: Any, features: dict[str, Feature], example: Any) -> Any:
    if isinstance(structure, str):
        feature = features[structure]
        return _pixels(feature, *example) if feature.encoding == "image" else example
    if "tuple" in structure:
        pairs = zip(structure["tuple"], example, strict=True)
        return tuple(_decoded(part, features, value) for part, value in pairs)
    pairs = structure["dict"].items()
    return {key: _decoded(part, features, example[key]) for key, part in pairs}


def _pixels(feature: Feature, contents: tf.Tensor, image_format: tf.Tensor) -> tf.Tensor:
    height, width, channels = _image_shape(feature.shape)
    endings = frozenset(f".{name}" for name in feature.formats)
    decoding = ImageDecoding((height, width, channels), feature.image_size, endings)
    return decoding.decode(contents, tf.strings.join([".", image_format]))


def _image_shape(shape: Sequence[int | None]) -> tuple[int, int, int]:
    height, width, channels = (int(size or 0) for size in shape)
    return height, width, channels
