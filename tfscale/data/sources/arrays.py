"""Arrays, whose first dimension is the examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data.python_calls import call_python
from tfscale.data.sources.random_access import RandomAccessSource

# TensorFlow copies an array into its own memory, through a temporary second copy.
COPY_LIMIT_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class ArraySource(RandomAccessSource):
    """Arrays whose first dimension is the examples.

    Attributes:
        arrays: Structure of [num_examples, ...] each: `tf.Tensor`, `tf.RaggedTensor`, or a
            `np.ndarray` that is read in place.
        num_examples: Number of examples. Positive.
    """

    arrays: Any
    num_examples: int

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Types and shapes of the arrays."""
        return ", ".join(
            f"{np.dtype(tf.as_dtype(leaf.dtype).as_numpy_dtype)}{tuple(leaf.shape)}"
            for leaf in tf.nest.flatten(self.arrays)
        )

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the examples at `indices`, int64 [n], as a structure of [n, ...] tensors."""
        leaves = tf.nest.flatten(self.arrays)
        in_place = [leaf for leaf in leaves if isinstance(leaf, np.ndarray)]
        rows = iter(_take_in_place(in_place, indices) if in_place else ())
        taken = [
            next(rows) if isinstance(leaf, np.ndarray) else tf.gather(leaf, indices)
            for leaf in leaves
        ]
        return tf.nest.pack_sequence_as(self.arrays, taken)


def array_source(source: Any) -> ArraySource:
    """Returns arrays as a source.

    An array of up to `COPY_LIMIT_BYTES` is copied into TensorFlow, which is fastest. A larger one,
    and any `np.memmap` of numbers, is read in place and must not be modified.

    Args:
        source: Arrays in nested tuples, lists or dicts: `np.ndarray`, `tf.Tensor`,
            `tf.RaggedTensor`, or other objects that NumPy converts to arrays.

    Raises:
        ValueError: If the arrays differ in length or are empty, or TensorFlow does not support
            their type.
    """
    structure = _tuples(source)
    leaves = [_checked(leaf) for leaf in tf.nest.flatten(structure)]
    lengths = {_length(leaf) for leaf in leaves}
    if len(lengths) != 1 or 0 in lengths:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise ValueError(
            "`source` must be arrays of the same positive length. Received: arrays of shapes "
            f"{shapes or 'none'}. Check that inputs and targets belong together."
        )
    arrays = tf.nest.pack_sequence_as(structure, [_placed(leaf) for leaf in leaves])
    return ArraySource(arrays, lengths.pop())


def _tuples(structure: Any) -> Any:
    """Converts lists to tuples: a list is data to NumPy and a structure to TensorFlow."""
    if isinstance(structure, dict):
        return {key: _tuples(part) for key, part in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*map(_tuples, structure))
    return tuple(map(_tuples, structure)) if isinstance(structure, (list, tuple)) else structure


def _checked(leaf: Any) -> Any:
    """Returns `leaf` as a tensor or `np.ndarray` of at least one dimension."""
    if isinstance(leaf, (tf.Tensor, tf.RaggedTensor)) and leaf.shape.rank != 0:
        return leaf
    cure = "Convert a list of numbers or strings with np.asarray"
    if not hasattr(leaf, "__array__"):
        if not isinstance(leaf, (int, float, complex, str, bytes, type(None))):
            cure = (
                "For sparse tensors use tf.data.Dataset.from_tensor_slices; for a generator use "
                "from_generator and assert_cardinality, or pass it to `fit` directly"
            )
    elif isinstance(leaf, np.ma.MaskedArray):
        cure = "Fill it first: array.filled(value)"
    elif np.ndim(leaf):
        # Not np.asarray, which would hide that an array is a np.memmap.
        return leaf if isinstance(leaf, np.ndarray) else np.asarray(leaf)
    raise ValueError(
        "`source` must be arrays (in a tuple, list or dict) whose first dimension is the examples, "
        "a tf.data.Dataset of single examples, or a TFDS name. Received: "
        f"{type(leaf).__module__}.{type(leaf).__qualname__} of shape "
        f"{getattr(leaf, 'shape', 'none')}. {cure}."
    )


def _length(leaf: Any) -> int:
    return int(leaf.nrows()) if isinstance(leaf, tf.RaggedTensor) else int(leaf.shape[0])


def _placed(leaf: Any) -> Any:
    """Returns `leaf` as a tensor in TensorFlow's memory, or unchanged if it is large."""
    if isinstance(leaf, np.ndarray):
        is_large = isinstance(leaf, np.memmap) or leaf.nbytes > COPY_LIMIT_BYTES
        # Strings must be converted to TensorFlow's own objects.
        if is_large and leaf.dtype.kind not in "OSU" and _has_tensors(leaf.dtype):
            return leaf
    try:
        with tf.device("CPU:0"):
            is_tensor = isinstance(leaf, (tf.Tensor, tf.RaggedTensor))
            return tf.identity(leaf) if is_tensor else tf.convert_to_tensor(leaf)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`source` must be arrays of types that TensorFlow supports. Received: an array of "
            f"{leaf.dtype}, shape {tuple(leaf.shape)}. Convert it: array.astype(np.float32)."
        ) from error


def _has_tensors(dtype: np.dtype[Any]) -> bool:
    try:
        tf.as_dtype(dtype)
    except TypeError:
        return False
    return True


def _take_in_place(arrays: list[np.ndarray], indices: tf.Tensor) -> list[tf.Tensor]:
    dtypes = [array.dtype.newbyteorder("=") for array in arrays]

    def take(indices: np.ndarray) -> list[np.ndarray]:
        return [
            np.asarray(array.take(indices, axis=0), dtype)
            for array, dtype in zip(arrays, dtypes, strict=True)
        ]

    rows = call_python(take, [indices], [tf.as_dtype(d) for d in dtypes])
    for part, array in zip(rows, arrays, strict=True):
        part.set_shape([indices.shape[0], *array.shape[1:]])
    return list(rows)
