"""Private symbols of Keras and TensorFlow that are called, not replaced; detects changes in them.

A patch replaces a symbol; a private symbol is only called, read or set. It may change in any
release, and code that depends on it is then wrong or fails far from the cause. So each has
fingerprints like a patch. They are taken from the source file, because some symbols have no source
at run time: an attribute that a class sets on its instances (`self._value = ...`).

    tables      private_keras.KERAS_SYMBOLS, private_tensorflow.TENSORFLOW_SYMBOLS
    refused     what needs a symbol that changed: see `needs`
    listed      by tfscale doctor and tfscale doctor --json
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import importlib.util
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType

from strategies.keras_support.patching.fingerprints import calls_overridden
from strategies.keras_support.patching.needs import Need, refusal
from strategies.keras_support.patching.upstream import lineage, module_of, named_owner
from strategies.keras_support.patching.upstream_symbol import UpstreamSymbol


@dataclass(frozen=True)
class PrivateSymbol(UpstreamSymbol):
    """A private symbol of Keras or TensorFlow that is used and not replaced.

    Attributes:
        target: The symbol, as `"package.module:name"` or `"package.module:Class.attribute"`, where
            `Class`, or a class that it inherits from, defines it: in its body, or by
            `self.attribute = ...`.
        accepted: Fingerprints of the sources it was used with, and of its signature if nothing
            else matters to its use.
        need: What depends on it.
        used_in: Modules and packages of this repository that use it.
        purpose: What for.
    """

    target: str
    accepted: tuple[str, ...]
    need: Need
    used_in: tuple[str, ...]
    purpose: str

    def is_inherited(self) -> bool:
        """Tells whether the class that is named inherits it: see `UpstreamSymbol`."""
        owner, name = named_owner(self.target)
        return name not in vars(owner)

    def definitions(self) -> list[ast.Module]:
        """Returns what the source files define: see `UpstreamSymbol`."""
        owner, name = named_owner(self.target)
        trees: list[ast.Module] = []
        for each in lineage(owner):
            with contextlib.suppress(LookupError):
                trees.append(definition_of(*_source(each, name)))
                if not calls_overridden(trees[-1], name):
                    break
        if not trees:
            raise LookupError(self.target)
        return trees


def used(
    need: Need, used_in: str, purpose: str, fingerprints: dict[str, str]
) -> tuple[PrivateSymbol, ...]:
    """Returns rows of a table: symbols that are used in the same places, for the same purpose.

    Args:
        need: What depends on them.
        used_in: Modules and packages inside of `strategies`, separated by spaces.
        purpose: What for.
        fingerprints: By symbol, the accepted fingerprints, separated by spaces.
    """
    return tuple(
        PrivateSymbol(
            target,
            tuple(accepted.split()),
            need,
            tuple(f"strategies.{place}" for place in used_in.split()),
            purpose,
        )
        for target, accepted in fingerprints.items()
    )


def changed_symbols(symbols: Collection[PrivateSymbol]) -> list[PrivateSymbol]:
    """Returns those that the installed releases have changed or removed."""
    with _no_garbage_collection():
        changed = [symbol for symbol in symbols if not _is_recognised_once(symbol)]
        _tree.cache_clear()
    return changed


def require_recognised(symbols: Collection[PrivateSymbol], need: Need) -> None:
    """Checks the private symbols of a need that may be used before a strategy is built.

    Raises:
        RuntimeError: If one changed or is gone.
    """
    changed = changed_symbols([symbol for symbol in symbols if symbol.need is need])
    if changed:
        raise RuntimeError(refusal(need, [symbol.target for symbol in changed]))


def definition_of(module: ast.Module, path: str) -> ast.Module:
    """Returns the statements that define a symbol in the source of its module.

    Of a function, a class or a property it is the whole definition; of an attribute, every
    statement of the class or of its methods that sets it.

    Args:
        module: The parsed source.
        path: "name", "Class.method" or "Class.attribute".

    Raises:
        LookupError: If there is no such symbol.

    Example:
        >>> ast.unparse(definition_of(ast.parse("x = 1; y = 2"), "y"))
        'y = 2'
    """
    *outer, name = path.split(".")
    body = module.body
    owner: ast.ClassDef | None = None
    for part in outer:
        found = [each for each in _statements(body) if _defines(each, part)]
        classes = [each for each in found if isinstance(each, ast.ClassDef)]
        if not classes:
            raise LookupError(path)
        owner = classes[-1]
        body = owner.body
    defining = [each for each in _statements(body) if _defines(each, name)]
    if not defining and owner is not None:
        defining = list(_assignments(owner.body, name))
    if not defining:
        raise LookupError(path)
    return ast.Module(defining, [])


def _source(owner: type | ModuleType, name: str) -> tuple[ast.Module, str]:
    """Returns the parsed module of an owner, and the path of a symbol in it."""
    if not isinstance(owner, type):
        return _tree(owner.__name__), name
    # A class that is exported under another module's name is where its methods are.
    prefix = f"{owner.__qualname__}."
    modules = [
        module_of(value)
        for value in vars(owner).values()
        if isinstance(value, FunctionType) and value.__qualname__.startswith(prefix)
    ]
    package = owner.__module__.partition(".")[0] + "."
    own = [module for module in modules if module.startswith(package)]
    return _tree(own[0] if own else owner.__module__), f"{prefix}{name}"


@functools.cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(module)
    return ast.parse(Path(spec.origin).read_text("utf-8"))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Avoids garbage collection while parsing, which would scan all of TensorFlow: 0.3 s."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@functools.cache
def _is_recognised_once(symbol: PrivateSymbol) -> bool:
    return symbol.is_recognised()


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields statements, also those under a condition or in a `try`."""
    for each in body:
        yield each
        if isinstance(each, (ast.If, ast.Try)):
            yield from _statements(_inner(each))


def _inner(statement: ast.stmt) -> list[ast.stmt]:
    bodies = (getattr(statement, part, []) for part in ("body", "orelse", "finalbody"))
    return [each for body in bodies for each in body]


def _defines(statement: ast.stmt, name: str) -> bool:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return statement.name == name
    return any(isinstance(each, ast.Name) and each.id == name for each in _targets(statement))


def _assignments(body: list[ast.stmt], name: str) -> Iterator[ast.stmt]:
    """Yields the statements at any depth that set an attribute of that name."""
    for each in body:
        attributes = (target for target in _targets(each) if isinstance(target, ast.Attribute))
        if any(one.attr == name and isinstance(one.value, ast.Name) for one in attributes):
            yield each
        yield from _assignments(_inner(each), name)


def _targets(statement: ast.stmt) -> Iterator[ast.expr]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    else:
        return
    for target in targets:
        yield from target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
