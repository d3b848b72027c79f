"""Values of a function for all examples of a source, evaluated once and cached in a file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.extension import announce
from tfscale.data.composition.requirements import batch_spec
from tfscale.data.sources import ArraySource, RandomAccessSource
from tfscale.files.output_files import reason, whole_files

_BATCH, _BATCH_BYTES = 256, 1 << 24
_SECONDS_BETWEEN_LINES = 10.0
_SAMPLES = 1000
_FORMAT = b"tfscale values 1\n"

ValuesOf = Callable[[Any], tf.Tensor]
"""Maps a batch of n examples to a tensor [n]."""


def evaluated(
    source: RandomAccessSource,
    values_of: ValuesOf,
    *,
    name: str,
    dtype: tf.DType,
    key: str | None,
    cache_dir: str | os.PathLike[str] | None,
) -> np.ndarray:
    """Returns the values of a function for all examples.

    A cached result is compared with the function for 1,000 examples, which are other ones at every
    start.

    Args:
        source: The examples.
        values_of: The function. Traced.
        name: The argument that is the function, for messages.
        dtype: The type that the function must return: `tf.bool` or `tf.int64`. Other integers are
            converted to int64.
        key: Text that differs if the function does, or None if the result must not be cached.
        cache_dir: Folder of cached results, or None to evaluate at every start.

    Returns:
        An array [source.num_indices].

    Raises:
        ValueError: If the function returns another type or shape, or if values differ from the
            cached ones.
    """
    if cache_dir is None or key is None:
        return _all_values(source, values_of, name, dtype)
    parts = [name, key, *content_of(source)]
    full_key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = f"{os.fspath(cache_dir).rstrip('/')}/{name}-{full_key[:32]}.values"
    cached = _read(path, full_key, source.num_indices, dtype)
    if cached is not None:
        _compare_samples(source, values_of, name, dtype, cached, path)
        return cached
    values = _all_values(source, values_of, name, dtype)
    tf.io.gfile.makedirs(os.fspath(cache_dir))
    _write(path, full_key, values)
    return values


def as_values(result: Any, name: str, dtype: tf.DType) -> tf.Tensor:
    """Returns what a function of a batch has returned as a tensor of its type.

    Args:
        result: What it has returned.
        name: The argument that is the function, for messages.
        dtype: See `evaluated`.

    Raises:
        ValueError: If it is of another type or shape.
    """
    try:
        found = tf.convert_to_tensor(result)
    except (TypeError, ValueError) as error:  # a structure, None
        raise ValueError(_rule(name, dtype, type(result).__name__)) from error
    is_right = found.dtype == dtype or (dtype == tf.int64 and found.dtype.is_integer)
    if not is_right or found.shape.rank not in (1, None):
        raise ValueError(_rule(name, dtype, f"{found.dtype.name} of shape {found.shape}"))
    return tf.cast(found, dtype)


def _values_at(
    source: RandomAccessSource, values_of: ValuesOf, name: str, dtype: tf.DType, starts: Any
) -> tf.data.Dataset:
    """Maps a dataset of int64 [n] indices to the values of these examples."""

    def values(indices: tf.Tensor) -> tf.Tensor:
        return as_values(values_of(source.take(indices)), name, dtype), tf.size(indices)

    return starts.map(values, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _all_values(
    source: RandomAccessSource, values_of: ValuesOf, name: str, dtype: tf.DType
) -> np.ndarray:
    count = source.num_indices
    rows = _rows(source)
    batches = tf.data.Dataset.range(0, count, rows).map(
        lambda start: tf.range(start, tf.minimum(start + rows, count))
    )
    result = np.empty([count], dtype.as_numpy_dtype)
    done, last_line = 0, time.monotonic()
    dataset = _values_at(source, values_of, name, dtype, batches).prefetch(4)
    for values, rows in dataset.as_numpy_iterator():
        _require_rows(values, rows, name, dtype)
        result[done : done + rows] = values
        done += int(rows)
        if time.monotonic() - last_line > _SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            announce(f"{name}: {done:,} of {count:,} examples")
    return result


def _rows(source: RandomAccessSource) -> int:
    """Returns how many examples to evaluate at once: fewer if they are large."""
    size = 1
    for spec in tf.nest.flatten(batch_spec(source), expand_composites=True):
        size += (spec.shape[1:].num_elements() or 0) * spec.dtype.size
    return max(1, min(_BATCH, _BATCH_BYTES // size))


def _compare_samples(
    source: RandomAccessSource,
    values_of: ValuesOf,
    name: str,
    dtype: tf.DType,
    cached: np.ndarray,
    path: str,
) -> None:
    random = np.random.default_rng()
    size = min(_SAMPLES, len(cached))
    indices = np.sort(random.choice(len(cached), size, replace=False))
    batches = tf.data.Dataset.from_tensor_slices(indices).batch(_rows(source))
    found = []
    for values, rows in _values_at(source, values_of, name, dtype, batches).as_numpy_iterator():
        _require_rows(values, rows, name, dtype)
        found.append(values)
    wrong = indices[np.concatenate(found) != cached[indices]]
    if len(wrong):
        raise ValueError(
            f"`{name}` must return the same values as those cached in {path}. Received: other "
            f"values for {len(wrong)} of {size} sampled examples, the first of them example "
            f"{wrong[0]}. If `{name}` or the data changed, pass another `version`, or delete this "
            f"file. If `{name}` is random, make it a function of the example only."
        )


def _require_rows(values: np.ndarray, rows: int, name: str, dtype: tf.DType) -> None:
    if values.shape != (rows,):
        raise ValueError(_rule(name, dtype, f"shape {values.shape} for {rows} examples"))


def _rule(name: str, dtype: tf.DType, received: str) -> str:
    kind = "bool" if dtype == tf.bool else "integer"
    return (
        f"`{name}` must map a batch of n examples to a {kind} tensor of shape [n]. Received: "
        f"{received}. Reduce every other dimension, for instance with tf.reduce_all(x, axis=-1)."
    )


def content_of(source: RandomAccessSource) -> list[str]:
    """Returns text that differs if the examples differ; it hashes arrays."""
    if isinstance(source, ArraySource):
        return [source.fingerprint, *map(_array_digest, tf.nest.flatten(source.arrays))]
    return [source.fingerprint, *(text for part in source.parts for text in content_of(part))]


def _array_digest(array: Any) -> str:
    digest = hashlib.sha256()
    for part in tf.nest.flatten(array, expand_composites=True):
        if isinstance(part, np.ndarray):
            for start in range(0, len(part), 4096):
                digest.update(np.ascontiguousarray(part[start : start + 4096]).tobytes())
        elif part.dtype == tf.string:
            for text in part.numpy().reshape(-1):
                digest.update(f"{len(text)}:".encode())
                digest.update(text)
        else:
            digest.update(np.ascontiguousarray(part.numpy()).tobytes())
    return digest.hexdigest()


def _write(path: str, key: str, values: np.ndarray) -> None:
    is_bool = values.dtype == bool
    data = np.packbits(values).tobytes() if is_bool else values.astype("<i8").tobytes()
    header = json.dumps({"key": key, "count": len(values), "is_bool": is_bool}).encode() + b"\n"
    body = _FORMAT + header + data
    try:
        with whole_files(path) as (file,):
            file.write(hashlib.sha256(body).digest() + body)
    except OSError as error:
        raise OSError(
            f"{path} could not be written: {reason(error)}. Make room there, or pass another "
            "`cache_dir`."
        ) from error


def _read(path: str, key: str, count: int, dtype: tf.DType) -> np.ndarray | None:
    """Returns cached values, or None if there is no such file or it is damaged."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.NotFoundError:
        return None
    body = content[32:]
    if hashlib.sha256(body).digest() != content[:32] or not body.startswith(_FORMAT):
        announce(f"{path} is damaged; its values are evaluated and written again")
        return None
    header, _, data = body.removeprefix(_FORMAT).partition(b"\n")
    if json.loads(header) != {"key": key, "count": count, "is_bool": dtype == tf.bool}:
        return None
    if dtype == tf.bool:
        return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(bool)
    return np.frombuffer(data, "<i8").astype(np.int64)
