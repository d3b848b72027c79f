"""Which number of a model's output is explained: an output, and an element of it in each row."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfscale.explain.on_replicas import OnReplicas
from tfscale.explain.rows import Rows


class Output:
    """One output of a model.

    Args:
        model: The model.
        name: Name or index of the output; None if there is one only.

    Raises:
        ValueError: If the model has no such output, or several and no name is given.
    """

    def __init__(self, model: keras.Model, name: str | int | None) -> None:
        self.model = model
        names = _output_names(model)
        if name is None and len(names) > 1:
            raise ValueError(
                f"`output` is required for a model of several outputs: {', '.join(names)}. "
                "Received: output=None. Pass one of these names."
            )
        if name is not None and names and name not in names and name not in range(len(names)):
            raise ValueError(
                f"`output` must be one of {', '.join(names)}. Received: output={name!r}. Pass a "
                "name or an index."
            )
        self._index = names.index(name) if isinstance(name, str) else name or 0
        shape: tuple[Any, ...] = (None,)
        if names:
            shape = tuple(keras.tree.flatten(model.outputs)[self._index].shape[1:])
        self.static_shape: tuple[int, ...] | None = None if None in shape else shape
        """Shape of a row of the output, if it is the same for all inputs."""

    def flat(self, inputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Calls the model for predicting.

        Returns:
            The output with each row made flat, [rows, size], and the shape of a row.
        """
        values = self.whole(inputs)
        shape = tf.shape(values)
        return tf.reshape(values, [shape[0], -1]), shape[1:]

    def whole(self, inputs: Any) -> tf.Tensor:
        """Calls the model for predicting. Returns the output as it is."""
        found = keras.tree.flatten(self.model(inputs, training=False))
        if self._index >= len(found):
            raise ValueError(
                f"`output` must be below {len(found)}. Received: output={self._index}. Pass the "
                "index of an output."
            )
        return found[self._index]

    def chosen(self, inputs: Any, elements: tf.Tensor) -> tf.Tensor:
        """Returns the element of each row, by its index in the flat row. Shape [rows]."""
        return tf.gather(self.flat(inputs)[0], elements, axis=1, batch_dims=1)


def elements_of(output: Output, rows: Rows, target: Any, batch_size: int) -> np.ndarray:
    """Finds which element of the output is explained.

    Args:
        output: The output.
        rows: The rows.
        target: Index of the element: an int, or a tuple of them for an output of several axes, or
            a list with an index for each row. None means the largest of each row.
        batch_size: Rows at a time.

    Returns:
        The index in the flat output of each row. Shape [rows].

    Raises:
        ValueError: If there is no such element.
    """

    def probed(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        flat, shape = output.flat(rows.packed([batch[str(i)] for i in range(len(rows.arrays))]))
        number = tf.shape(flat)[0]
        return {
            "shape": tf.tile(shape[None, :], [number, 1]),
            "largest": tf.argmax(flat, axis=1),
            "values": tf.reduce_max(flat, axis=1),
        }

    if target is not None and output.static_shape is not None:
        return _flat_indices(target, output.static_shape, len(rows))
    needed = len(rows) if target is None else 1
    found = OnReplicas(output.model, probed)(
        {str(i): each[:needed] for i, each in enumerate(rows.arrays)}, batch_size
    )
    shape = tuple(int(size) for size in found["shape"][0])
    if target is None:
        if len(shape) > 1 and np.prod(shape) > 1:
            raise ValueError(
                f"`target` is required for an output of shape {shape}. Received: target=None. Pass "
                f"the index of one element, a tuple of {len(shape)} integers."
            )
        return np.asarray(found["largest"], np.int32)
    return _flat_indices(target, shape, len(rows))


def _flat_indices(target: Any, shape: tuple[int, ...], num_rows: int) -> np.ndarray:
    indices = _indices(target, shape, num_rows)
    flat = np.ravel_multi_index(tuple(indices.T), shape) if shape else np.zeros(len(indices), int)
    return np.broadcast_to(flat, num_rows).astype(np.int32)


def _indices(target: Any, shape: tuple[int, ...], num_rows: int) -> np.ndarray:
    """Returns indices, shape [1 or rows, axes]."""
    if isinstance(target, (list, np.ndarray)) and np.ndim(target) >= 1:
        if len(target) != num_rows:
            raise ValueError(
                f"`target` must have an index for each of {num_rows} rows. Received: "
                f"{len(target)} of them. Pass one int for all rows, or a list of {num_rows}."
            )
        return np.stack([_index(each, shape) for each in target])
    return _index(target, shape)[None]


def _index(target: Any, shape: tuple[int, ...]) -> np.ndarray:
    axes = shape if shape else (1,)
    given = (
        tuple(target)
        if isinstance(target, (tuple, list, np.ndarray)) and np.ndim(target)
        else (target,)
    )
    try:
        index = [operator.index(each) for each in given if not isinstance(each, bool)]
    except TypeError:
        index = []
    fits = len(index) == len(axes) and all(
        0 <= one < size for one, size in zip(index, axes, strict=False)
    )
    if not fits:
        rule = (
            f"an integer in [0, {axes[0]})"
            if len(axes) == 1
            else f"a tuple of {len(axes)} integers, an index of shape {shape}"
        )
        raise ValueError(
            f"`target` must be {rule}. Received: target={target!r}. The output of a row has shape "
            f"{shape}; pass the index of one of its elements."
        )
    return np.asarray(index[: len(shape)] if shape else index, int)


def _output_names(model: keras.Model) -> list[str]:
    """Returns the names of the outputs; none if the model has no graph."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return []
    structure = None if isinstance(model, keras.Sequential) else getattr(model, "output", None)
    if isinstance(structure, dict):
        return sorted(map(str, structure))
    names = [str(name) for name in getattr(model, "output_names", [])]
    if len(names) != len(outputs) or len(set(names)) != len(names):
        return [str(i) for i in range(len(outputs))]
    return names
