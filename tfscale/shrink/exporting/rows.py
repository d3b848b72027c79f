"""The rows that an exported file is run on: the user's, or random ones for inputs of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfscale.shrink.exporting.signature import input_names
from tfscale.trained_model import LABEL

DRAWN = 256
"""Rows that are drawn if the user gives none."""


@dataclass(frozen=True)
class Rows:
    """Rows for a model.

    Attributes:
        inputs: Arrays of equal length by the name of the input.
        classes: The true class of each row, or None.
        are_drawn: Whether they are random.
    """

    inputs: Mapping[str, np.ndarray]
    classes: np.ndarray | None = None
    are_drawn: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def drawn_rows(model: keras.Model, seed: int = 0) -> Rows:
    """Draws normal rows for a model whose inputs are all floating-point.

    Args:
        model: A model with named inputs.
        seed: Of the draws.

    Raises:
        ValueError: If an input is something else, or has a size that is not fixed.
    """
    random = np.random.default_rng(seed)
    inputs = {}
    for name, each in zip(input_names(model), model.inputs, strict=True):
        if not str(each.dtype).startswith(("float", "bfloat")) or None in each.shape[1:]:
            raise ValueError(
                f"`data` is required, because values of input {name!r} ({each.dtype}, shape "
                f"{tuple(each.shape)}) cannot be drawn. Received: no data. Pass some hundred rows "
                "of your own."
            )
        inputs[name] = random.normal(size=(DRAWN, *each.shape[1:])).astype(each.dtype)
    return Rows(inputs, are_drawn=True)


def rows_of(model: keras.Model, data: Any, most: int) -> Rows:
    """Sorts the user's rows by the inputs of a model.

    Args:
        model: A model with named inputs.
        data: An array for a model of one input; a list of arrays in the order of `model.inputs`; a
            mapping by name, with the true classes under "y" if they are known; or a tuple (x, y)
            of one of these and the classes.
        most: Rows to use, from the first on. Positive.

    Raises:
        ValueError: If an input has no rows, or lengths or shapes do not fit.
    """
    classes = None
    if isinstance(data, tuple) and len(data) == 2:
        data, classes = data
    names = input_names(model)
    if isinstance(data, Mapping):
        given = {str(name): np.asarray(values) for name, values in data.items()}
        classes = given.pop(LABEL, classes) if LABEL not in names else classes
    elif isinstance(data, Sequence):
        given = (
            dict(zip(names, map(np.asarray, data), strict=False)) if len(data) == len(names) else {}
        )
    else:
        given = {names[0]: np.asarray(data)} if len(names) == 1 else {}
    if sorted(given) != sorted(names):
        raise ValueError(
            f"`data` must have rows for each input: {', '.join(names)}. Received: "
            f"{', '.join(sorted(given)) or type(data).__name__}. Name the arrays like the inputs, "
            f"and the true classes {LABEL!r}."
        )
    lengths = {name: len(values) for name, values in given.items()}
    if classes is not None:
        classes = np.asarray(classes).reshape(-1)
        lengths[LABEL] = len(classes)
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(
            f"`data` must have the same number of rows for each input, at least one. Received: "
            f"{lengths}. Cut them to one length."
        )
    inputs = {
        name: _of_type(given[name], each.dtype, tuple(each.shape), name)[:most]
        for name, each in zip(names, model.inputs, strict=True)
    }
    return Rows(inputs, None if classes is None else classes[:most])


def _of_type(
    values: np.ndarray, dtype: str, shape: tuple[int | None, ...], name: str
) -> np.ndarray:
    fits = len(values.shape) == len(shape) and all(
        wanted in (None, got) for got, wanted in zip(values.shape, shape, strict=True)
    )
    is_text = values.dtype.kind in "USO"
    if not fits or is_text is not (dtype == "string"):
        raise ValueError(
            f"`data` must have input {name!r} of type {dtype} and shape {shape}. Received: type "
            f"{values.dtype} and shape {values.shape}. Pass what you pass to model.predict."
        )
    return values.astype(str) if is_text else values.astype(dtype)
