"""A hash of what a function does, or None if it cannot be known.

    function_key(lambda batch: batch["label"] < 5)     # the same text in every process

The hash is of the bytecode, the constants and the names, and of all values that the function can
reach by name: defaults, closure, global variables, and functions that it calls, recursively.
Functions and modules of installed libraries count by name and version. A value that has no stable
hash, such as an object of a class or a module of the user, gives None.
"""

from __future__ import annotations

import builtins
import dis
import enum
import functools
import hashlib
import importlib
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

# They reach variables by names that are not in the bytecode.
_OPAQUE = {"eval", "exec", "globals", "locals", "vars", "__import__", "open", "input"}
_LIBRARIES = tuple(
    {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def function_key(function: Any) -> str | None:
    """Returns a hash of what a function does, or None if it cannot be known.

    Args:
        function: A function, a `functools.partial`, or a function of an installed library.

    Returns:
        Text that two functions share only if they do the same, as far as the hashed values
        determine it: a function that reads files or random numbers may change with the same hash.

    Example:
        >>> function_key(lambda x: x > 1) == function_key(lambda x: x > 2)
        False
    """
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    try:
        _Hash(digest).add(function)
    except _UnknownError:
        return None
    return digest.hexdigest()


class _UnknownError(Exception):
    """A value has no stable hash."""


class _Hash:
    """Adds values to a digest."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest
        # What is being added, from outside to inside: a function may refer to itself.
        self._open: list[int] = []

    def add(self, value: Any) -> None:
        """Adds a value.

        Raises:
            _UnknownError: If it has no stable hash.
        """
        if value is None or value is Ellipsis or isinstance(value, (bool, int, float, complex)):
            self._text(f"{type(value).__name__} {value!r}")
            # A subclass may change what operators do.
            if type(value) not in (type(None), type(Ellipsis), bool, int, float, complex):
                self._named(type(value))
        elif type(value) is str:
            self._bytes(value.encode("utf-8", "surrogatepass"))
        elif type(value) is bytes:
            self._bytes(value)
        elif id(value) in self._open:
            self._text(f"part {self._open.index(id(value))}")
        else:
            self._open.append(id(value))
            self._compound(value)
            self._open.pop()

    def _compound(self, value: Any) -> None:
        self._text(type(value).__qualname__)
        if type(value) in (tuple, list):
            self._all(value)
        elif type(value) is dict:
            self._all([part for item in value.items() for part in item])
        elif type(value) in (set, frozenset):
            self._all(sorted(map(_stand_alone, value)))
        elif isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
            array = np.asarray(value)
            self._text(f"{array.dtype.str} {array.dtype.descr} {array.shape}")
            self._bytes(array.tobytes())
        elif isinstance(value, tf.DType):
            self._text(value.name)
        elif tf.is_tensor(value) and hasattr(value, "numpy") and value.dtype != tf.string:
            if isinstance(value, tf.Variable):
                raise _UnknownError
            self.add(value.numpy())
        elif isinstance(value, types.ModuleType):
            self._text(_library_version(value))
        elif _is_of_library(value):
            self._named(value)
        elif isinstance(value, tuple) and hasattr(value, "_fields"):  # tf.io.FixedLenFeature
            self._named(type(value))
            self._all(tuple(value))
        elif isinstance(value, types.CodeType):
            self._code(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif type(value) is functools.partial:
            self._all([value.func, value.args, value.keywords])
        elif isinstance(value, enum.Enum):
            self._named(type(value))
            self._text(value.name)
        elif isinstance(value, tf.types.experimental.PolymorphicFunction):
            self.add(value.python_function)
        else:
            raise _UnknownError

    def _function(self, function: types.FunctionType) -> None:
        self.add(function.__code__)
        self.add(function.__defaults__)
        self.add(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                raise _UnknownError from None
            self.add(content)
        for name in sorted(_global_names(function.__code__)):
            self._text(name)
            if name in function.__globals__:
                self.add(function.__globals__[name])
            elif name in _OPAQUE or not hasattr(builtins, name):
                raise _UnknownError
        for name in sorted(_imported_names(function.__code__)):
            try:
                self.add(importlib.import_module(name))
            except ImportError:
                raise _UnknownError from None

    def _code(self, code: types.CodeType) -> None:
        self._bytes(code.co_code)
        self._bytes(code.co_exceptiontable)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        flags = code.co_flags & 0xFFFF  # without those of `from __future__`
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, flags)
        self._text(f"{names} {counts}")
        self._all(code.co_consts)

    def _named(self, value: Any) -> None:
        if not _is_of_library(value):
            raise _UnknownError
        module = sys.modules[value.__module__]
        self._text(f"{_library_version(module)} {_name(value)}")

    def _all(self, values: Any) -> None:
        self._text(f"{len(values)}")
        for value in values:
            self.add(value)

    def _text(self, text: str) -> None:
        self._bytes(text.encode("utf-8", "surrogatepass"))

    def _bytes(self, data: bytes) -> None:
        self._digest.update(f"{len(data)}:".encode())
        self._digest.update(data)


def _stand_alone(value: Any) -> str:
    """Returns a hash of an element of a set, whose order is not stable."""
    digest = hashlib.sha256()
    _Hash(digest).add(value)
    return digest.hexdigest()


def _global_names(code: types.CodeType) -> set[str]:
    names = set()
    for part in _nested(code):
        for instruction in dis.get_instructions(part):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
                names.add(str(instruction.argval))
    return names


def _imported_names(code: types.CodeType) -> set[str]:
    names = set()
    for part in _nested(code):
        instructions = list(dis.get_instructions(part))
        for number, instruction in enumerate(instructions):
            if instruction.opname == "IMPORT_NAME":
                # The level of a relative import is loaded two instructions before.
                if instructions[number - 2].argval != 0:
                    raise _UnknownError
                names.add(str(instruction.argval))
    return names


def _nested(code: types.CodeType) -> list[types.CodeType]:
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return [code, *(deeper for part in inner for deeper in _nested(part))]


def _is_of_library(value: Any) -> bool:
    """Whether an object is what an installed library has under its name."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None or not _name(value):
        return False
    found: Any = module
    for part in _name(value).split("."):
        found = getattr(found, part, None)
    if found is not value:
        return False
    try:
        _library_version(module)
    except _UnknownError:
        return False
    return True


def _name(value: Any) -> str:
    return str(getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or "")


def _library_version(module: types.ModuleType) -> str:
    """Returns name and version of a module of an installed library or of Python."""
    name = module.__name__
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"{name} of Python {sys.version}"
    file = getattr(module, "__file__", None)
    version = getattr(sys.modules.get(top), "__version__", None)
    if file is None or version is None:
        raise _UnknownError
    if not any(Path(file).is_relative_to(folder) for folder in _LIBRARIES):
        raise _UnknownError
    return f"{name} {version}"
