"""The user's function, which returns a compiled model and data."""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tfscale.cli.modules import search_current_folder

# AutoGraph puts the lines that called a function, with their sources, before the error.
_AUTOGRAPH_FRAME = re.compile(r'^ +File "(.*)", line (\d+), in .*\n.*\n', re.MULTILINE)


class WrongUsage(Exception):
    """Raised if the user's function cannot be used. The text is one line with the cure."""


class UserModel:
    """The user's function, imported by name.

    Args:
        target: `"module:function"`. The current directory is importable.

    Raises:
        WrongUsage: If there is no such function, or importing its module fails.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        name, _, function = target.partition(":")
        self.module = _import(name)
        self._function: Callable[[], Any] = _function(self.module, name, function)
        self._models: list[Any] = []

    def call(self) -> Any:
        """Calls the function in the current scope and returns what it returns.

        Raises:
            WrongUsage: If the function raises.
        """
        try:
            return self._function()
        except Exception as error:
            raise WrongUsage(
                f"{self.target}() raised {_where(error)}. Call it in Python to debug it."
            ) from error

    def build(self) -> tuple[Any, Any]:
        """Calls the function in the current scope and returns a new compiled model and data.

        Raises:
            WrongUsage: If the function raises, or returns anything else.
        """
        model, data = checked_model(self.target, self.call())
        if any(model is earlier for earlier in self._models):
            raise WrongUsage(
                f"`{self.target}` must build a new model at each call. Received: the same model "
                "twice. Make it inside the function, not at the top of the module."
            )
        self._models.append(model)  # kept, because the address of a dropped model may be reused
        return model, data

    def custom_objects(self) -> dict[str, Any]:
        """Returns the module's classes and functions, for loading a saved file that needs them."""
        return {
            name: value
            for name, value in vars(self.module).items()
            if callable(value) and getattr(value, "__module__", None) == self.module.__name__
        }


def _import(name: str) -> ModuleType:
    folder = search_current_folder()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise WrongUsage(
                f"`MODULE` must be importable from the current directory or be installed. "
                f"Received: {name!r} in {folder}. Change to its folder, or set PYTHONPATH."
            ) from error
        raise WrongUsage(f"importing {name} raised {_where(error)}. Install it.") from error
    except Exception as error:
        raise WrongUsage(
            f"importing {name} raised {_where(error)}. Import it in Python to debug it."
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


def checked_model(name: str, returned: Any) -> tuple[Any, Any]:
    """Returns the compiled model and the data that a user's function returned.

    Args:
        name: The function, for messages.
        returned: What it returned.

    Raises:
        WrongUsage: If that is anything else.
    """
    import keras

    if not isinstance(returned, tuple) or len(returned) != 2:
        raise WrongUsage(
            f"`{name}` must return `(model, data)`. Received: {described(returned)}. Return a "
            "compiled model and its data."
        )
    model, data = returned
    if not isinstance(model, keras.Model):
        raise WrongUsage(
            f"`{name}` must return a keras.Model first. Received: a value of type "
            f"{type(model).__name__}. Return `(model, data)`."
        )
    if not model.compiled:
        raise WrongUsage(
            f"`{name}` must return a compiled model. Received: {model.name!r}, not compiled. Call "
            "`model.compile(...)` in the function."
        )
    return model, data


def imported_function(target: str) -> Callable[..., Any]:
    """Returns the function of a name. The current directory is importable.

    Args:
        target: `"module:function"`.

    Raises:
        WrongUsage: If there is no such function, or importing its module fails.
    """
    name, _, function = target.partition(":")
    return _function(_import(name), name, function)


def imported_module(name: str) -> ModuleType:
    """Returns a module of the user. The current directory is importable.

    Raises:
        WrongUsage: If importing it fails.
    """
    return _import(name)


def in_one_line(error: BaseException) -> str:
    """Returns an error's type and text, without colours and TensorFlow's graph locations.

    Example:
        >>> in_one_line(ValueError("no such  thing"))
        'ValueError: no such thing'
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    frames = list(_AUTOGRAPH_FRAME.finditer(text)) if text.startswith("in user code:") else []
    if frames:
        said = " ".join(text[frames[-1].end() :].split())
        return f"{said} ({Path(frames[-1][1]).name}:{frames[-1][2]})"
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("File ")]
    said = " ".join(" ".join(lines).split())
    # Keras adds text around the error of a layer.
    said = re.sub(r"^Exception encountered when calling \S+\(\)\. ", "", said)
    return f"{type(error).__name__}: {said.partition(' Arguments received by ')[0]}"


def first_sentence(error: BaseException) -> str:
    """Returns an error's type and its first sentence, for a table.

    Example:
        >>> first_sentence(ValueError("No rows. Received: 0."))
        'ValueError: No rows.'
    """
    sentence = in_one_line(error).partition(". ")[0].rstrip(".")
    return f"{sentence}." if len(sentence) < 200 else f"{sentence[:200]}..."


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{in_one_line(error)[:400]} ({Path(frame.filename).name}:{frame.lineno})"


def described(value: Any) -> str:
    """Returns a description of `value` for an error message."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(part).__name__ for part in value)})"
    return f"a value of type {type(value).__name__}"
