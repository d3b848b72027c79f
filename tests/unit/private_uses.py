"""Where the sources of this repository use private symbols of Keras and TensorFlow.

What is found, by the shape of the source alone:

    an import         from keras.src.losses import loss; from tensorflow.python.eager import context
    its members       context.global_seed, where the import is a module
    an attribute      variable._value, where the name is none of this repository's own
    a name in text    getattr(extended, "_collective_ops"), vars(x)["_handle"]
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PRIVATE_MODULES = ("keras.src", "tensorflow.python", "tensorflow.core", "tensorflow.compiler")
LOOKED_UP_BY_NAME = ("getattr", "hasattr", "setattr", "delattr")
# Documented, of Python: frames, and named tuples.
OF_PYTHON = {"_exit", "_getframe", "_current_frames", "_replace", "_fields", "_asdict"}
# Of JAX, whose release `tfscale preflight --aot` chooses itself.
OF_JAX = {"_xla"}

# What this repository itself puts on objects of Keras begins with `_tfscale`.
_PRIVATE_NAME = re.compile("_(?!tfscale)[a-zA-Z][a-zA-Z0-9_]*")


@dataclass(frozen=True)
class Use:
    """A private symbol in a source.

    Attributes:
        module: Of this repository, which uses it.
        line: Of its source.
        name: The symbol, `"package.module:name"`, or an attribute, `"_name"`.
    """

    module: str
    line: int
    name: str


def own_names(trees: Iterable[ast.Module]) -> set[str]:
    """Returns the private names that sources define themselves."""
    return {name for tree in trees for name in _defined(tree) if _PRIVATE_NAME.fullmatch(name)}


def private_uses(module: str, tree: ast.Module, own: set[str]) -> list[Use]:
    """Returns the private symbols of Keras and TensorFlow that one source uses.

    Args:
        module: Its name.
        tree: The parsed source.
        own: Private names that this repository defines, which `self` may have by inheritance.
    """
    modules = dict(_imported_modules(tree))
    here = set(_defined(tree))
    found = [(line, name) for line, name in _imported_names(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in modules:
                found.append((node.lineno, f"{modules[node.value.id]}:{node.attr}"))
            elif _is_private_use(node, here, own):
                found.append((node.lineno, node.attr))
        elif isinstance(node, (ast.expr, ast.For)):
            found += [(node.lineno, name) for name in _names_looked_up(node) if name not in here]
    return [Use(module, line, name) for line, name in found]


def _is_private_use(node: ast.Attribute, here: set[str], own: set[str]) -> bool:
    name = node.attr
    if isinstance(node.value, ast.Attribute) and node.value.attr == "__internal__":
        return True  # tf.__internal__, which TensorFlow keeps for Keras
    if not _PRIVATE_NAME.fullmatch(name) or name.endswith("__") or name in OF_PYTHON | OF_JAX:
        return False
    is_of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    return name not in (own if is_of_self else here)


def _names_looked_up(node: ast.AST) -> Iterator[str]:
    """Yields the private names that a call or a subscript looks up."""
    places: list[ast.expr] = []
    if isinstance(node, ast.Call):
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called in LOOKED_UP_BY_NAME:
            places = node.args[1:2]
        elif called in ("get", "pop") and _is_vars(getattr(node.func, "value", None)):
            places = node.args[:1]
    elif isinstance(node, ast.Subscript) and _is_vars(node.value):
        places = [node.slice]
    elif isinstance(node, ast.For):  # for name in ("_a", "_b"): getattr(x, name)
        places = list(getattr(node.iter, "elts", []))
    for place in places:
        name = place.value if isinstance(place, ast.Constant) else None
        if isinstance(name, str) and _PRIVATE_NAME.fullmatch(name) and name not in OF_PYTHON:
            yield name


def _is_vars(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "vars"


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if isinstance(node, ast.ClassDef):
            yield from _set_on_self(node)


def _set_on_self(owner: ast.ClassDef) -> Iterator[str]:
    """Yields what the methods of a class, not functions beside one, set on `self`."""
    for node in ast.walk(owner):
        if not (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)):
            continue
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.lineno, node.module, alias.name, alias.asname or alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, _, name = alias.name.rpartition(".")
                yield node.lineno, package, name, alias.asname or alias.name


def _imported_modules(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for _, package, name, alias in _imports(tree):
        if is_private(f"{package}.{name}") and _is_module(f"{package}.{name}"):
            yield alias, f"{package}.{name}"


def _imported_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, package, name, _ in _imports(tree):
        if is_private(package) and not _is_module(f"{package}.{name}"):
            yield line, f"{package}:{name}"


def is_private(module: str) -> bool:
    """Tells whether a module is private to Keras or TensorFlow."""
    return any(module == each or module.startswith(f"{each}.") for each in PRIVATE_MODULES)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
