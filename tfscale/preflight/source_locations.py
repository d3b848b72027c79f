"""Lines of the user's own code: of an error, of a graph's operation, of a layer.

A line is the user's own where it belongs neither to the libraries that carry a step out nor to
tfscale. A layer of Keras computes in lines of Keras, so there the line that made it is named.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfscale.preflight.finding import Place

_LIBRARIES = ("tensorflow", "keras", "numpy", "absl", "strategies", "tfscale")
_REFUSED = re.compile(r"\{\{node ([^}\s]+)\}\}")
_TRACING = str(Path("keras_support", "step", "tracing.py"))


class LayerPlaces:
    """Where layers were made, by their names."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, Place | None]] = []

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Notes every layer that is made inside."""
        import keras

        layer_class = keras.layers.Layer
        original = vars(layer_class)["__new__"]

        def make(cls: Any, *args: Any, **kwargs: Any) -> Any:
            layer = original.__func__(cls, *args, **kwargs)
            self._made.append((layer, _calling_place()))
            return layer

        layer_class.__new__ = staticmethod(make)
        try:
            yield
        finally:
            layer_class.__new__ = original

    def of_operation(self, operation: Any) -> Place | None:
        """Returns where the layer was made that an operation belongs to, by the names around it."""
        named = {layer.name: (layer, place) for layer, place in self._made if place}
        for part in reversed(operation.name.split("/")[:-1]):
            # A graph numbers the second use of a name.
            for name in (part, re.sub(r"_\d+$", "", part)):
                if name in named:
                    layer, place = named[name]
                    return Place(place.file, place.line, f"{name} ({type(layer).__name__})")
        return None


def operation_place(operation: Any, layers: LayerPlaces) -> Place | None:
    """Returns the user's own line that an operation of a traced step comes from, if any.

    Args:
        operation: A `tf.Operation`.
        layers: Where layers were made.
    """
    inside = []
    for frame in reversed(operation.traceback):
        if frame.filename.endswith(_TRACING):
            break  # what lies outside called the preflight
        inside.append((frame.filename, frame.lineno))
    return _first_own(inside) or layers.of_operation(operation)


def error_place(error: BaseException) -> Place | None:
    """Returns the user's own line that raised an error, if any."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = []
    for frame in reversed(frames):
        if frame.filename.endswith(_TRACING):
            break
        inside.append((frame.filename, frame.lineno or 0))
    return _first_own(inside)


def refused_place(error: BaseException, graph: Any, layers: LayerPlaces) -> Place | None:
    """Returns the user's own line of the operation that XLA names where it refuses a step, if any.

    Args:
        error: XLA's.
        graph: The step's.
        layers: Where layers were made.
    """
    named = _REFUSED.search(str(error))
    operations = {operation.name: operation for operation in graph.get_operations()}
    operation = operations.get(named[1]) if named else None  # none of a branch or a loop
    return None if operation is None else operation_place(operation, layers)


def function_place(function: Any) -> Place | None:
    """Returns where a Python function is defined, if it is one."""
    code = getattr(function, "__code__", None)
    return Place(code.co_filename, code.co_firstlineno) if code is not None else None


def _calling_place() -> Place | None:
    frame = sys._getframe(2)
    while frame is not None:
        if _is_own(frame.f_code.co_filename):
            return Place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _first_own(frames: Iterable[tuple[str, int]]) -> Place | None:
    return next((Place(file, line) for file, line in frames if _is_own(file)), None)


@functools.cache
def _is_own(file: str) -> bool:
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    if any(path.is_relative_to(folder) for folder in _library_folders()):
        return False
    is_standard = path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())
    return not is_standard or "site-packages" in path.parts


@functools.cache
def _library_folders() -> tuple[Path, ...]:
    specs = (importlib.util.find_spec(name) for name in _LIBRARIES)
    folders = (spec.submodule_search_locations for spec in specs if spec is not None)
    return tuple(Path(folder).resolve() for found in folders for folder in found or ())
