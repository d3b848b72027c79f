"""Batches of a model's inputs, from arrays or a dataset, to look at its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_ROWS = 128
_MOST_ROWS = 65536
"""Of a dataset, which may repeat without end."""


def calibration_batches(model: keras.Model, calibration: Any) -> Iterator[Any]:
    """Yields batches of inputs as `model` takes them.

    Args:
        model: The model.
        calibration: Arrays of one length, as `predict` takes them; or a `tf.data.Dataset` of
            batches of inputs, or of tuples that begin with the inputs. Of a dataset at most
            65,536 rows are used.

    Raises:
        ValueError: If there is no row, or `calibration` is something else.

    Example:
        >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
        >>> [batch.shape[0] for batch in calibration_batches(model, np.ones([200, 1]))]
        [128, 72]
    """
    count = 0
    for batch in _batches(calibration):
        count += int(np.shape(keras.tree.flatten(batch)[0])[0])
        yield batch
        if count >= _MOST_ROWS:
            break
    if count == 0:
        raise ValueError(
            "`calibration` must have a row at least. Received: none, for the model "
            f"{model.name!r}. Pass a few hundred typical inputs."
        )


def refuse_other_than_model(model: Any) -> None:
    """Checks that an argument is a Keras model.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a Keras model. Received: {model!r}. Load a file with "
            "keras.models.load_model."
        )


def _batches(calibration: Any) -> Iterator[Any]:
    if isinstance(calibration, tf.data.Dataset):
        for element in calibration:
            yield element[0] if isinstance(element, tuple) else element
        return
    arrays = keras.tree.map_structure(np.asarray, calibration)
    flat = keras.tree.flatten(arrays)
    lengths = {len(each) for each in flat if each.ndim}
    if len(lengths) != 1 or not all(each.ndim for each in flat):
        kind = type(calibration).__name__
        received = f"{kind} of {sorted(lengths)} rows" if lengths else f"a {kind}, no rows"
        raise ValueError(
            "`calibration` must be arrays with the same number of rows, as model.predict takes "
            f"them, or a tf.data.Dataset of batches. Received: {received}. Pass typical inputs, "
            "such as images[:500]."
        )
    (rows,) = lengths
    for begin in range(0, rows, _ROWS):
        yield keras.tree.map_structure(lambda each, at=begin: each[at : at + _ROWS], arrays)
