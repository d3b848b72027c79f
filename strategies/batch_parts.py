"""The parts of a batch: those with one row per example, and those that all examples share.

A part of rank 0, and one declared with `Shared`, is the same for all examples; None is no part.
Every other part has one row per example, so all of them have the same number of rows.
"""

from __future__ import annotations

from typing import Any, Union

import tensorflow as tf
from tensorflow.python.framework.none_tensor import NoneTensorSpec  # public since 2.21

_ROLES = ("x", "y", "sample_weight")


class Shared(tf.experimental.ExtensionType):
    """A tensor that all examples of a batch share; see `tfscale.data.shared`.

    TensorFlow's functions convert it to its value, and a model gets the value.

    Attributes:
        value: The tensor.
    """

    __name__ = "strategies.Shared"

    # TensorFlow does not accept X | Y.
    value: Union[tf.Tensor, tf.RaggedTensor, tf.SparseTensor]  # noqa: UP007

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        return tf.convert_to_tensor(self.value, dtype=dtype, name=name)


def has_examples(part: Any) -> bool:
    """Returns whether a part of a batch, or its `tf.TypeSpec`, has one row per example."""
    tensors = (tf.Tensor, tf.RaggedTensor, tf.SparseTensor)
    specs = (tf.TensorSpec, tf.RaggedTensorSpec, tf.SparseTensorSpec)
    return isinstance(part, (*tensors, *specs)) and part.shape.rank != 0


def has_shared(spec: Any) -> bool:
    """Returns whether batches of this structure of `tf.TypeSpec` have a `Shared` part."""
    return any(isinstance(part, Shared.Spec) for part in tf.nest.flatten(spec))


def as_element(dataset: tf.data.Dataset, arguments: tuple[Any, ...]) -> Any:
    """Returns an element of a dataset from the arguments that `Dataset.map` passes."""
    return arguments if type(dataset.element_spec) is tuple else arguments[0]


def without_wrappers(batch: Any) -> Any:
    """Returns a batch as a model gets it: `Shared` parts as their values, Optionals as None."""

    def unwrapped(part: Any) -> Any:
        if isinstance(part, tf.experimental.Optional):  # Keras's adapters use it for None
            return None
        return part.value if isinstance(part, Shared) else part

    return tf.nest.map_structure(unwrapped, batch)


def without_wrapper_specs(spec: Any) -> Any:
    """Returns the structure of `tf.TypeSpec` of a batch as a model gets it, with None for None."""

    def unwrapped(part: Any) -> Any:
        if part is None or isinstance(part, (tf.OptionalSpec, NoneTensorSpec)):
            return None
        return part.value if isinstance(part, Shared.Spec) else part

    return tf.nest.map_structure(unwrapped, spec)


def named_parts(batch: Any) -> list[tuple[str, Any]]:
    """Returns the parts of a batch, or of its specification, by the names that users know.

    Example:
        >>> [name for name, _ in named_parts(({"a": 1, "b": (2, 3)}, 4))]
        ["x['a']", "x['b'][0]", "x['b'][1]", 'y']
    """
    if not isinstance(batch, tuple):
        return _paths("x", batch)
    if len(batch) > len(_ROLES):
        return _paths("data", batch)
    return [leaf for role, part in zip(_ROLES, batch, strict=False) for leaf in _paths(role, part)]


def _paths(path: str, part: Any) -> list[tuple[str, Any]]:
    if isinstance(part, dict):
        return [leaf for key, value in part.items() for leaf in _paths(f"{path}[{key!r}]", value)]
    if isinstance(part, (tuple, list)):
        return [leaf for i, value in enumerate(part) for leaf in _paths(f"{path}[{i}]", value)]
    return [] if part is None else [(path, part)]


def rows_of(part: Any) -> tf.Tensor:
    """Returns the number of rows of a part, int64."""
    if isinstance(part, tf.RaggedTensor):
        return tf.cast(part.nrows(), tf.int64)
    if isinstance(part, tf.SparseTensor):
        return tf.cast(part.dense_shape[0], tf.int64)
    return tf.shape(part, tf.int64)[0]


def num_rows(batch: Any) -> tf.Tensor:
    """Returns the number of rows of the first part of a batch with examples, int64.

    Raises:
        ValueError: If no part has examples.
    """
    refuse_no_rows(batch)
    return rows_of(next(part for part in tf.nest.flatten(batch) if has_examples(part)))


def refuse_no_rows(batch: Any) -> None:
    """Checks that a batch, or its specification, has a part with examples.

    Raises:
        ValueError: If it has none.
    """
    if not any(map(has_examples, tf.nest.flatten(batch))):
        raise ValueError(
            "A batch must contain at least one tensor whose first dimension is the examples. "
            f"Received: batch={batch!r}."
        )


def static_rows(batch: Any) -> int | None:
    """Returns the static number of rows of a batch, or None if a part is not dense or has none."""
    parts = [part for part in tf.nest.flatten(batch) if has_examples(part)]
    if not parts or not all(isinstance(part, (tf.Tensor, tf.TensorSpec)) for part in parts):
        return None
    sizes = {part.shape[0] if part.shape.rank else None for part in parts}
    return sizes.pop() if len(sizes) == 1 else None


def spec_with_rows(batch: Any, rows: int) -> Any:
    """Returns the specification of a batch with another number of examples.

    Args:
        batch: Structure of `tf.TypeSpec`, with None for missing parts. Parts that are not dense,
            and scalars, stay as they are.
        rows: Number of examples. Positive.

    Example:
        >>> spec_with_rows(tf.TensorSpec([8, 3]), 2).shape
        TensorShape([2, 3])
    """

    def change(part: Any) -> Any:
        if isinstance(part, tf.TensorSpec) and part.shape.rank:
            return tf.TensorSpec([rows, *part.shape[1:]], part.dtype)
        return part

    return tf.nest.map_structure(change, batch)


def refuse_unequal_rows(spec: Any) -> None:
    """Checks the static first dimensions of a batch.

    Args:
        spec: Structure of `tf.TypeSpec`.

    Raises:
        ValueError: If two parts with examples have different ones.
    """
    sizes = {
        name: part.shape[0]
        for name, part in named_parts(spec)
        if has_examples(part) and part.shape.rank and part.shape[0] is not None
    }
    if len(set(sizes.values())) > 1:
        raise ValueError(_unequal(sizes))


def equal_rows(batch: Any) -> tf.Tensor:
    """Returns the number of rows of a batch, int64, and checks that all parts have it.

    In a graph the check runs with each batch and raises `tf.errors.InvalidArgumentError`.

    Raises:
        ValueError: If no part has examples, or, eagerly, if the numbers differ.
    """
    rows = num_rows(batch)
    if static_rows(batch) is not None and not tf.executing_eagerly():
        return rows
    parts = [(name, rows_of(part)) for name, part in named_parts(batch) if has_examples(part)]
    if tf.executing_eagerly():
        known = {name: int(size) for name, size in parts}
        if len(set(known.values())) > 1:
            raise ValueError(_unequal(known))
        return rows
    sizes = tf.stack([size for _, size in parts])
    template = _unequal({name: "{}" for name, _ in parts})
    message = tf.strings.format(template, [size for _, size in parts])
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(sizes == rows), [message])]):
        return tf.identity(rows)


def refuse_empty(rows: tf.Tensor | int) -> tf.Tensor:
    """Returns `rows`, after checking that it is positive.

    Raises:
        ValueError: Eagerly, if it is 0; in a graph `tf.errors.InvalidArgumentError`.
    """
    message = (
        "`x` must have at least one example in every batch. Received: a batch of 0 rows. Filter "
        "before batching."
    )
    if isinstance(rows, int) or tf.executing_eagerly():
        if int(rows) == 0:
            raise ValueError(message)
        return rows
    with tf.control_dependencies([tf.debugging.Assert(rows > 0, [message])]):
        return tf.identity(rows)


def _unequal(sizes: dict[str, Any]) -> str:
    names = ", ".join(f"`{name}`" for name in sizes)
    found = ", ".join(f"{size} rows in {name}" for name, size in sizes.items())
    return (
        f"{names} must have the same number of rows, one per example, because they are divided "
        f"among the replicas. Received: {found}. Declare a part that all examples share with "
        "tfscale.data.shared(part) in Dataset.map, after batch(). If examples differ in size, "
        "give each a row: pad them, or make the part a tf.RaggedTensor."
    )
