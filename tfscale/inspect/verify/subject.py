"""What `tfscale verify` trains: a function of the user's that returns a compiled model and data."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Batch = tuple[Any, ...]
"""`(x,)`, `(x, y)` or `(x, y, sample_weight)`: nested arrays whose first dimension is the rows."""


class WrongUsage(Exception):
    """The user's function is not one that can be verified; the text is one line with the cure."""


class Subject:
    """A function of the user's, found by name.

    Args:
        target: `"module:function"`; the current directory is importable.

    Raises:
        WrongUsage: If there is no such function, or importing its module fails.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        name, _, function = target.partition(":")
        self.module = _import(name)
        self._function: Callable[[], Any] = _function(self.module, name, function)
        self._models: list[Any] = []

    def build(self) -> tuple[Any, Any]:
        """Calls the function in the scope it is called in; returns a new compiled model and data.

        Raises:
            WrongUsage: If the function raises, or returns anything else.
        """
        import keras

        try:
            returned = self._function()
        except Exception as error:
            raise WrongUsage(
                f"{self.target}() raised {_where(error)}. Call it by itself."
            ) from error
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise WrongUsage(
                f"`{self.target}` must return `(model, data)`. Received: "
                f"{_described(returned)}. Return a compiled model and its data."
            )
        model, data = returned
        if not isinstance(model, keras.Model):
            raise WrongUsage(
                f"`{self.target}` must return a keras.Model first. Received: a value of type "
                f"{type(model).__name__}. Return `(model, data)`."
            )
        if not model.compiled:
            raise WrongUsage(
                f"`{self.target}` must return a compiled model. Received: {model.name!r}, not "
                "compiled. Call `model.compile(...)` in the function."
            )
        if any(model is earlier for earlier in self._models):
            raise WrongUsage(
                f"`{self.target}` must build a new model at each call. Received: the same model "
                "twice. Make it inside the function, not at the top of the module."
            )
        self._models.append(model)  # kept: the address of a dropped model may come again
        return model, data

    def custom_objects(self) -> dict[str, Any]:
        """Returns the module's classes and functions, to load a file that names them."""
        return {
            name: value
            for name, value in vars(self.module).items()
            if callable(value) and getattr(value, "__module__", None) == self.module.__name__
        }


def take_batches(data: Any, count: int, batch_size: int) -> list[Batch]:
    """Returns the first batches of `data`, as arrays.

    Of arrays the last batch taken is the one that is not full, where there is one: it is what a
    strategy has to weigh.

    Args:
        data: `(x,)`, `(x, y)` or `(x, y, sample_weight)` of arrays, which may be nested; a batched
            `tf.data.Dataset`; or a `keras.utils.PyDataset`.
        count: Batches to take at most. Positive.
        batch_size: Rows of a batch of arrays. Positive.

    Raises:
        WrongUsage: If `data` is something else, or holds parts without rows.
    """
    import keras
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset):
        elements = list(data.take(count))
    elif isinstance(data, keras.utils.PyDataset):
        length = data.num_batches
        elements = [data[i] for i in range(count if length is None else min(count, length))]
    elif isinstance(data, (tuple, list)) and 1 <= len(data) <= 3:
        elements = _cut(_as_arrays(tuple(data)), count, batch_size)
    else:
        raise WrongUsage(
            "`data` must be `(x, y)`, `(x, y, sample_weight)`, a batched tf.data.Dataset or a "
            f"keras.utils.PyDataset. Received: {_described(data)}."
        )
    batches = [_as_arrays(part if isinstance(part, tuple) else (part,)) for part in elements]
    if not batches:
        raise WrongUsage("`data` must hold at least one batch. Received: none.")
    for batch in batches:
        num_rows(batch)
    return batches


def num_rows(batch: Batch) -> int:
    """Returns the rows of a batch.

    Raises:
        WrongUsage: If its parts hold different numbers of rows, or none.
    """
    import keras

    shapes = [part.shape for part in keras.tree.flatten(batch)]
    sizes = {shape[0] if shape else None for shape in shapes}
    if len(sizes) != 1 or None in sizes or 0 in sizes:
        raise WrongUsage(
            "`data` must hold parts of equally many rows, in batches. Received: a batch with parts "
            f"of shapes {', '.join(map(str, shapes))}. Batch a data set with `.batch(n)`."
        )
    return int(shapes[0][0])


def permuted(batches: Sequence[Batch], seed: int) -> list[Batch]:
    """Returns the batches with the rows of each in another order: the same sums, other rounding."""
    import keras

    generator = np.random.default_rng(seed)
    result = []
    for batch in batches:
        order = generator.permutation(num_rows(batch))
        result.append(keras.tree.map_structure(lambda part, order=order: part[order], batch))
    return result


def _cut(arrays: Batch, count: int, batch_size: int) -> list[Batch]:
    import keras

    rows = num_rows(arrays)
    starts = list(range(0, rows, batch_size))
    if len(starts) > count:
        last = starts[-1] if rows % batch_size else starts[count - 1]
        starts = [*starts[: count - 1], last]
    return [
        keras.tree.map_structure(lambda part, i=i: part[i : i + batch_size], arrays) for i in starts
    ]


def _as_arrays(parts: Batch) -> Batch:
    parts = tuple(itertools.dropwhile(lambda part: part is None, reversed(parts)))[::-1]
    return tuple(_array(part) for part in parts)


def _array(part: Any) -> Any:
    """Arrays in tuples and dicts: `tf.data` would stack what stands in a list."""
    if isinstance(part, dict):
        return {name: _array(value) for name, value in part.items()}
    if isinstance(part, (tuple, list)):
        return tuple(_array(value) for value in part)
    try:
        array = np.asarray(part)
    except (TypeError, ValueError, NotImplementedError):
        array = np.asarray(None)
    is_text = array.dtype == object and all(isinstance(v, (str, bytes)) for v in array.flat)
    if array.dtype == object and not is_text:
        raise WrongUsage(
            "`data` must hold dense arrays. Received: a part of type "
            f"{type(part).__name__}. Verify with dense parts; ragged and sparse ones are not taken."
        )
    return array


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise WrongUsage(
                f"`MODULE` must be importable from here or be installed. Received: {name!r} in "
                f"{folder}. Change to its folder, or set PYTHONPATH."
            ) from error
        raise WrongUsage(f"importing {name} raised {_where(error)}. Install it.") from error
    except Exception as error:
        raise WrongUsage(
            f"importing {name} raised {_where(error)}. Import it by itself."
        ) from error


def _function(module: ModuleType, name: str, function: str) -> Callable[[], Any]:
    found = getattr(module, function, None)
    if not callable(found):
        own = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        known = [n for n in own if getattr(vars(module)[n], "__module__", None) == name]
        raise WrongUsage(
            f"`FUNCTION` must be a function of {name}. Received: {function!r}. "
            f"It has: {', '.join(known) or 'none'}."
        )
    return found  # type: ignore[no-any-return]


def in_one_line(error: BaseException) -> str:
    """Returns an error's kind and text, without colours and the places of a TensorFlow graph.

    Example:
        >>> in_one_line(ValueError("no such  thing"))
        'ValueError: no such thing'
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("File ")]
    return f"{type(error).__name__}: {' '.join(' '.join(lines).split())}"


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{in_one_line(error)[:400]} ({Path(frame.filename).name}:{frame.lineno})"


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(part).__name__ for part in value)})"
    return f"a value of type {type(value).__name__}"
