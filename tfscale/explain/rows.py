"""The rows to explain: arrays of a model's inputs, checked, in one flat order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np


@dataclass(frozen=True)
class Rows:
    """Rows of a model's inputs.

    Attributes:
        structure: The user's inputs: one array, a list or a dictionary of arrays.
        names: Names of the inputs, in the order of `keras.tree.flatten`.
        arrays: Their rows, in the type that the model takes.
    """

    structure: Any
    names: tuple[str, ...]
    arrays: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def packed(self, values: Sequence[Any]) -> Any:
        """Returns values of the inputs in the structure of the user's inputs."""
        return keras.tree.pack_sequence_as(self.structure, list(values))


def rows_of(model: keras.Model, inputs: Any, *, may_be_text: bool = False) -> Rows:
    """Checks what the user passes to be explained.

    Args:
        model: The model.
        inputs: What `model.predict` takes: one array, or a list or dictionary of arrays.
        may_be_text: Whether inputs may be strings.

    Raises:
        ValueError: If there are no rows, lengths differ, or a value is not finite or a string.
    """
    flat = [np.asarray(each) for each in keras.tree.flatten(inputs)]
    names, types = _names(model, inputs, len(flat)), _types(model, inputs, len(flat))
    lengths = {name: len(a) if a.ndim else None for name, a in zip(names, flat, strict=True)}
    if not flat or len(set(lengths.values())) != 1 or None in lengths.values():
        raise ValueError(
            f"`inputs` must be arrays with the same number of rows. Received: {lengths or inputs}. "
            "Pass what you pass to model.predict."
        )
    if 0 in lengths.values():
        raise ValueError(
            f"`inputs` must have at least one row. Received: {lengths}. Pass the rows to explain."
        )
    arrays = [
        _of_type(name, each, dtype, may_be_text)
        for name, each, dtype in zip(names, flat, types, strict=True)
    ]
    structure = keras.tree.map_structure(lambda each: 0, inputs)
    return Rows(structure, tuple(names), tuple(arrays))


def values_for(argument: str, value: Any, rows: Rows) -> list[np.ndarray]:
    """Returns one value for each row and input, such as a baseline.

    Args:
        argument: The name of the argument, for the message.
        value: A number for all; or values of one row, or of all rows, in the structure of the
            inputs.
        rows: The rows.

    Raises:
        ValueError: If shapes do not fit, or values are not finite.
    """
    is_number = np.ndim(value) == 0 and not isinstance(value, dict)
    if is_number:
        flat = [value] * len(rows.arrays)
    else:
        try:
            keras.tree.assert_same_structure(value, rows.structure)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`{argument}` must be a number, or have the structure of `inputs` "
                f"({', '.join(rows.names)}). Received: {type(value).__name__}. Pass a value for "
                "each input."
            ) from error
        flat = keras.tree.flatten(value)
    return [
        _broadcast(argument, name, each, array)
        for name, each, array in zip(rows.names, flat, rows.arrays, strict=True)
    ]


def _broadcast(argument: str, name: str, value: Any, array: np.ndarray) -> np.ndarray:
    given = np.asarray(value)
    fits = given.ndim == 0 or given.shape in (array.shape, array.shape[1:], (1, *array.shape[1:]))
    is_number = given.dtype.kind in "fiub"
    if not fits or not is_number or not np.all(np.isfinite(given)):
        received = f"shape {given.shape} of {given.dtype}" if given.ndim else repr(value)
        raise ValueError(
            f"`{argument}` must be a finite number, or finite values of one row, shape "
            f"{array.shape[1:]}, or of all rows, shape {array.shape}. Received for input {name!r}: "
            f"{received}. Pass one of these."
        )
    if array.dtype.kind in "iu" and np.any(given != np.round(given)):
        raise ValueError(
            f"`{argument}` must be whole numbers for input {name!r} of {array.dtype}. Received: "
            f"{given.reshape(-1)[0]!r}. Pass a token, such as 0 for padding."
        )
    return np.broadcast_to(given.astype(array.dtype), array.shape)


def _of_type(name: str, array: np.ndarray, dtype: str | None, may_be_text: bool) -> np.ndarray:
    if array.dtype.kind in "USO" or dtype == "string":
        if may_be_text:
            return array.astype(str)
        raise ValueError(
            f"`inputs` must be numbers. Received: text in input {name!r}, which has no gradient "
            "and no baseline. Call the TextVectorization or StringLookup layer on it first, and "
            "explain the rest of the model, which takes tokens."
        )
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"`inputs` must be numbers. Received: {array.dtype} in input {name!r}. Pass what you "
            "pass to model.predict."
        )
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
        raise ValueError(
            f"`inputs` must be finite. Received: NaN or infinity in row {row} of input {name!r}. "
            "Leave such rows out, or fill in the missing values as you did in training."
        )
    if dtype is None:
        dtype = keras.config.floatx() if array.dtype.kind == "f" else str(array.dtype)
    return array.astype("int32" if dtype == "bool" else "float32" if "bfloat" in dtype else dtype)


def _declared(model: keras.Model, inputs: Any, count: int) -> list[Any] | None:
    """Returns the tensors of `keras.Input`, in the order of the user's inputs, if there are any."""
    declared = getattr(model, "inputs", None)
    if not declared or len(declared) != count:
        return None
    if isinstance(inputs, dict):
        by_name = {str(each.name): each for each in declared}
        return [by_name[name] for name in sorted(inputs)] if set(by_name) == set(inputs) else None
    return list(declared)


def _names(model: keras.Model, inputs: Any, count: int) -> list[str]:
    if isinstance(inputs, dict) and len(inputs) == count:
        return sorted(map(str, inputs))
    declared = _declared(model, inputs, count)
    if declared is not None:
        return [str(each.name) for each in declared]
    return ["input"] if count == 1 else [f"input_{i}" for i in range(count)]


def _types(model: keras.Model, inputs: Any, count: int) -> list[str | None]:
    declared = _declared(model, inputs, count)
    return [None] * count if declared is None else [str(each.dtype) for each in declared]
