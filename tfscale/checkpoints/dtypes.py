"""The dtypes of a checkpoint, by their names."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfscale.checkpoints.manifest import BrokenCheckpoint

_KINDS = "biufc"
"""Truth values, integers, floats and complex numbers: bytes with no pointers in them."""


def dtype_named(name: str) -> np.dtype[Any]:
    """Returns a dtype of numbers by name, also one of those that NumPy itself does not know.

    Raises:
        BrokenCheckpoint: If no such dtype has this name.

    Example:
        >>> dtype_named("bfloat16").itemsize
        2
    """
    found = _found(name)
    if found is None:
        raise BrokenCheckpoint(f"no dtype of numbers is called {name[:40]!r}")
    return found


def is_known(name: str) -> bool:
    """Tells whether a dtype of numbers has this name."""
    return _found(name) is not None


def _found(name: str) -> np.dtype[Any] | None:
    kind = np.sctypeDict.get(name) or _of_ml_dtypes(name)
    if not isinstance(kind, type) or not issubclass(kind, np.generic):
        return None
    dtype: np.dtype[Any] = np.dtype(kind)
    is_of_numbers = dtype.kind in _KINDS or kind.__module__ == "ml_dtypes"
    return dtype if dtype.name == name and is_of_numbers else None


def _of_ml_dtypes(name: str) -> Any:
    import ml_dtypes  # comes with TensorFlow

    return vars(ml_dtypes).get(name)
