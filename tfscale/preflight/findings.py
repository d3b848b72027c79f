"""Findings of the preflight, and the lines of the user's code that they point to.

A line belongs to the user if it is neither in tfscale nor in the libraries that run a step. A Keras
layer computes in Keras's code, so for layers the line that created the layer is used.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAILS, WARNS = "fails", "warns"


@dataclass(frozen=True)
class SourceLocation:
    """A line of the user's code.

    Attributes:
        file: Path of the file.
        line: Line number, from 1.
        layer: The Keras layer that is created there, or "".
    """

    file: str
    line: int
    layer: str = ""

    def __str__(self) -> str:
        """Returns file:line, relative to the current directory if the file is inside it."""
        path = Path(self.file)
        here = Path.cwd()
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        return f"{shown}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """A problem of a training step on a TPU.

    Attributes:
        severity: `FAILS` if the step does not compile or its batch cannot be divided. `WARNS` if it
            compiles, but is slower, less exact or partly run elsewhere.
        kind: A short category, such as "operation" or "batch".
        text: The problem, as a phrase.
        cure: What to change, as a sentence.
        location: The location, or None if no line of the user's code causes it.
    """

    severity: str
    kind: str
    text: str
    cure: str
    location: SourceLocation | None = None


_LIBRARIES = ("tensorflow", "keras", "numpy", "absl", "strategies", "tfscale")
_REFUSED = re.compile(r"\{\{node ([^}\s]+)\}\}")
_TRACING = str(Path("keras_support", "step", "tracing.py"))


class LayerLocations:
    """Records the source locations at which Keras layers are created."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, SourceLocation | None]] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Records every layer that is created in the context.

        Raises:
            RuntimeError: If this Keras creates layers in another way.
        """
        from strategies.extension import Patch
        from tfscale.preflight.private_symbols import LAYER_CREATION

        accepted = frozenset(LAYER_CREATION.accepted)
        with Patch(LAYER_CREATION.target, accepted, self._recorded).installed():
            yield

    def _recorded(self, original: Any) -> Any:
        def make(cls: Any, *args: Any, **kwargs: Any) -> Any:
            layer = original.__func__(cls, *args, **kwargs)
            self._made.append((layer, _calling_location()))
            return layer

        return staticmethod(make)

    def of_operation(self, operation: Any) -> SourceLocation | None:
        """Returns the location of the layer that an operation belongs to, by its name scopes."""
        named = {layer.name: (layer, location) for layer, location in self._made if location}
        for part in reversed(operation.name.split("/")[:-1]):
            # A graph numbers the second use of a name.
            for name in (part, re.sub(r"_\d+$", "", part)):
                if name in named:
                    layer, location = named[name]
                    return SourceLocation(
                        location.file, location.line, f"{name} ({type(layer).__name__})"
                    )
        return None


def operation_location(operation: Any, layers: LayerLocations) -> SourceLocation | None:
    """Returns the line of the user's code that an operation of a traced step comes from, if any.

    Args:
        operation: A `tf.Operation`.
        layers: The locations at which layers were created.
    """
    inside = []
    for frame in reversed(operation.traceback):
        if frame.filename.endswith(_TRACING):
            break  # the frames outside called the preflight
        inside.append((frame.filename, frame.lineno))
    return _first_own(inside) or layers.of_operation(operation)


def error_location(error: BaseException) -> SourceLocation | None:
    """Returns the line of the user's code that raised an error, if any."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = []
    for frame in reversed(frames):
        if frame.filename.endswith(_TRACING):
            break
        inside.append((frame.filename, frame.lineno or 0))
    return _first_own(inside)


def rejected_location(
    error: BaseException, graph: Any, layers: LayerLocations
) -> SourceLocation | None:
    """Returns the line of the user's code for the operation that XLA's error names, if any.

    Args:
        error: The error of XLA.
        graph: The graph of the step.
        layers: The locations at which layers were created.
    """
    named = _REFUSED.search(str(error))
    operations = {operation.name: operation for operation in graph.get_operations()}
    operation = operations.get(named[1]) if named else None  # not found inside branches and loops
    return None if operation is None else operation_location(operation, layers)


def function_location(function: Any) -> SourceLocation | None:
    """Returns the location of a Python function, or None for other objects."""
    code = getattr(function, "__code__", None)
    return SourceLocation(code.co_filename, code.co_firstlineno) if code is not None else None


def _calling_location() -> SourceLocation | None:
    frame = sys._getframe(2)
    while frame is not None:
        if _is_own(frame.f_code.co_filename):
            return SourceLocation(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _first_own(frames: Iterable[tuple[str, int]]) -> SourceLocation | None:
    return next((SourceLocation(file, line) for file, line in frames if _is_own(file)), None)


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
