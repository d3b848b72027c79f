"""Examples that Python or a library reads from files, a batch at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfscale.data.python_calls import call_python
from tfscale.data.sources.random_access import RandomAccessSource

Decode = Callable[[Any], Any]
Parse = Callable[[Any], Any]


class Reader(Protocol):
    """Reads examples by index. Several threads call `read` at a time.

    Attributes:
        num_examples: Number of examples. Positive.
        element_spec: Structure of `tf.TensorSpec` of one example. At most the first dimension of a
            part may be unknown, for examples of different lengths.
        fingerprint: See `RandomAccessSource`.
    """

    num_examples: int
    element_spec: Any
    fingerprint: str

    def read(self, indices: np.ndarray) -> Any:
        """Returns the examples at `indices`, int64 [n], where n may be 0.

        Returns:
            The structure of `element_spec`. A part with a known shape is an array [n, *shape]; a
            part whose first dimension is unknown is a list of n arrays. Strings are arrays of
            `object` with `bytes`.
        """


class ReadSource(RandomAccessSource):
    """Examples of a `Reader`, which may be decoded in the graph.

    Example:
        >>> class Squares:
        ...     num_examples, fingerprint = 5, "squares"
        ...     element_spec = tf.TensorSpec([], tf.int64)
        ...     def read(self, indices):
        ...         return indices * indices
        >>> ReadSource(Squares()).take(tf.constant([3, 2], tf.int64)).numpy()
        array([9, 4])
    """

    def __init__(
        self, reader: Reader, decode: Decode | None = None, *, parse: Parse | None = None
    ) -> None:
        """Makes a source of a reader.

        Args:
            reader: Reads the examples.
            decode: Maps one example, as `reader.element_spec` describes it or as `parse` returns
                it, to an example of tensors with static shapes. Traced; several run at a time.
            parse: Maps a batch of examples to a batch, before `decode`. Traced.
        """
        self.reader = reader
        self.decode = decode
        self.parse = parse
        self.num_examples = reader.num_examples
        self.fingerprint = reader.fingerprint

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the examples at `indices`, int64 [n], as a structure of [n, ...] tensors."""
        batch = self._read(indices)
        if self.parse is not None:
            batch = self.parse(batch)
        if self.decode is None:
            return batch
        decoded = tf.map_fn(self.decode, batch, fn_output_signature=self._decoded_spec)
        return tf.nest.map_structure(lambda part: _with_rows(part, indices.shape[0]), decoded)

    def take_encoded(self, indices: tf.Tensor) -> Any:
        """Returns what the reader returns, before `parse` and `decode`."""
        return self._read(indices)

    @property
    def is_encoded(self) -> bool:  # type: ignore[override]
        """Whether examples are parsed or decoded in the graph."""
        return self.decode is not None or self.parse is not None

    def _read(self, indices: tf.Tensor) -> Any:
        return read_in_graph(self.reader.read, self.reader.element_spec, indices)

    @functools.cached_property
    def _decoded_spec(self) -> Any:
        function = tf.function(self.decode)
        traced = function.get_concrete_function(self._parsed_spec())
        return tf.nest.map_structure(tf.TensorSpec.from_tensor, traced.structured_outputs)

    def _parsed_spec(self) -> Any:
        """Describes what `decode` takes."""
        spec = self.reader.element_spec
        if self.parse is None:
            return spec
        batch = tf.nest.map_structure(
            lambda part: tf.TensorSpec([None, *part.shape], part.dtype), spec
        )
        parsed = tf.function(self.parse).get_concrete_function(batch).structured_outputs
        return tf.nest.map_structure(_of_one_example, parsed)


def read_by_file(
    indices: np.ndarray, bounds: np.ndarray, read: Callable[[int, np.ndarray], Any]
) -> np.ndarray:
    """Reads records of several files, which are numbered one file after the other.

    Args:
        indices: int64 [n].
        bounds: int64 [files + 1], the first record of each file, and the number of all.
        read: Returns the records of a file at ascending rows without repeats.

    Returns:
        `object` [n].

    Raises:
        IndexError: If there is no such record.
    """
    wanted, places = np.unique(indices, return_inverse=True)
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= bounds[-1]):
        raise IndexError(f"Records are 0 to {bounds[-1] - 1}. Received: {indices}.")
    records = np.empty(len(wanted), object)
    files = np.searchsorted(bounds, wanted, side="right") - 1
    for file in np.unique(files):
        first, last = np.searchsorted(files, [file, file + 1])
        records[first:last] = read(file, wanted[first:last] - bounds[file])
    return records[places.reshape(-1)]


def feature_parser(features: Mapping[str, Any]) -> Parse:
    """Returns the `parse` of a `ReadSource` whose examples are serialized `tf.train.Example`s.

    Args:
        features: Features for `tf.io.parse_example`, by name.

    Raises:
        ValueError: If there is none, or one of them makes sparse tensors.
    """
    known = (tf.io.FixedLenFeature, tf.io.FixedLenSequenceFeature, tf.io.RaggedFeature)
    is_named = isinstance(features, Mapping) and bool(features)
    named = features.items() if is_named else ()
    wrong = {name: of for name, of in named if not isinstance(of, known)}
    if wrong or not is_named:
        raise ValueError(
            "`features` must be tf.io.FixedLenFeature, FixedLenSequenceFeature or RaggedFeature, "
            f"by name. Received: features={wrong or features!r}. Use RaggedFeature for "
            "VarLenFeature and SparseFeature."
        )

    def parse(serialized: tf.Tensor) -> Any:
        parsed = tf.io.parse_example(serialized, dict(features))
        return {name: _with_rows(part, serialized.shape[0]) for name, part in parsed.items()}

    return parse


# AutoGraph would translate the Python that runs at every batch, and make it slower.
@tf.autograph.experimental.do_not_convert
def read_in_graph(read: Callable[[np.ndarray], Any], element_spec: Any, indices: tf.Tensor) -> Any:
    """Calls `read` in a graph.

    Args:
        read: Like `Reader.read`.
        element_spec: Like `Reader.element_spec`.
        indices: int64 [n].

    Returns:
        A structure of tensors [n, ...]; a part whose first dimension is unknown is a
        `tf.RaggedTensor`.

    Raises:
        ValueError: If `read` returns another structure or other shapes. In a graph, running it
            raises `tf.errors.InvalidArgumentError`.
    """
    specs = tf.nest.flatten(element_spec)
    dtypes = [spec.dtype for spec in specs]
    ragged = [bool(spec.shape.rank) and spec.shape[0] is None for spec in specs]

    def values(indices: np.ndarray) -> list[np.ndarray]:
        parts = _parts(element_spec, read(indices))
        flat = []
        for part, spec, is_ragged in zip(parts, specs, ragged, strict=True):
            rows = part if is_ragged else np.asarray(part)
            if len(rows) != len(indices):
                raise ValueError(
                    f"A source must return {len(indices)} examples for as many indices. Received: "
                    f"{len(rows)}. Check its reader."
                )
            flat.extend(_flattened(rows, spec) if is_ragged else [_as_dtype(rows, spec)])
        return flat

    out_types = []
    for dtype, is_ragged in zip(dtypes, ragged, strict=True):
        out_types += [dtype, tf.int64] if is_ragged else [dtype]
    found = iter(call_python(values, [indices], out_types))
    parts = []
    for spec, is_ragged in zip(specs, ragged, strict=True):
        part = next(found)
        if is_ragged:
            part.set_shape([None, *spec.shape[1:]])
            lengths = next(found)
            lengths.set_shape([indices.shape[0]])
            part = tf.RaggedTensor.from_row_lengths(part, lengths, validate=False)
        else:
            part.set_shape([indices.shape[0], *spec.shape])
        parts.append(part)
    return tf.nest.pack_sequence_as(element_spec, parts)


def _parts(spec: Any, value: Any) -> list[Any]:
    """Returns the parts of `value` in the order of `tf.nest`. A part itself may be a list."""
    if isinstance(spec, Mapping):
        return [part for key in sorted(spec) for part in _parts(spec[key], value[key])]
    if isinstance(spec, (tuple, list)):
        return [part for pair in zip(spec, value, strict=True) for part in _parts(*pair)]
    return [value]


def _flattened(rows: Any, spec: tf.TensorSpec) -> list[np.ndarray]:
    """Returns the values of all rows, and the lengths of the rows."""
    arrays = [_as_dtype(np.asarray(row), spec) for row in rows]
    lengths = np.array([len(array) for array in arrays], np.int64)
    empty = np.zeros((0, *spec.shape[1:]), arrays[0].dtype if arrays else _numpy_dtype(spec))
    return [np.concatenate([empty, *arrays]), lengths]


def _as_dtype(array: np.ndarray, spec: tf.TensorSpec) -> np.ndarray:
    return array if spec.dtype == tf.string else np.asarray(array, _numpy_dtype(spec))


def _numpy_dtype(spec: tf.TensorSpec) -> Any:
    return spec.dtype.as_numpy_dtype


def _with_rows(part: Any, rows: int | None) -> Any:
    if isinstance(part, tf.RaggedTensor):
        part.row_splits.set_shape([None if rows is None else rows + 1])
    else:
        part.set_shape([rows, *part.shape[1:]])
    return part


def _of_one_example(part: Any) -> Any:
    """Returns the spec of one row of a batch."""
    shape = part.shape[1:]
    if isinstance(part, tf.RaggedTensor) and part.ragged_rank > 1:
        return tf.RaggedTensorSpec(shape, part.dtype, part.ragged_rank - 1)
    return tf.TensorSpec(shape, part.dtype)
