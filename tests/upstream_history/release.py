"""One release of Keras or TensorFlow: the symbols in its sources, which are not imported.

A class is followed through the imports of a package: `keras:Model` is in keras/src/models/model.py.
A method is followed through the bases of its class, as Python would with the TensorFlow backend.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from strategies.keras_support.patching.fingerprints import (
    calls_overridden,
    signature_fingerprint,
    tree_fingerprint,
)
from strategies.keras_support.patching.private_symbol import definition_of
from tests.upstream_history.places import places_of


class Release:
    """The sources of one release.

    Args:
        name: As a reader of the table knows it: `"3.15"`, `"nightly"`.
        read: Returns the text of a file of the release, such as `"keras/src/losses/loss.py"`.
            Raises KeyError if there is none.
    """

    def __init__(self, name: str, read: Callable[[str], str | bytes]) -> None:
        self.name = name
        self._read = read
        self._trees: dict[str, ast.Module] = {}

    def fingerprint(self, target: str) -> str | None:
        """Returns the fingerprint of a symbol, None if the release does not have it.

        A method that calls the one it overrides is fingerprinted together with it.

        Args:
            target: "package.module:Class.attribute" or "package.module:name".
        """
        definitions = self._definitions(target)
        return tree_fingerprint(*definitions) if definitions else None

    def signature(self, target: str) -> str | None:
        """Returns the fingerprint of the arguments and decorators of a function.

        Args:
            target: As for `fingerprint`. Of what is no function, None.
        """
        definition = next(iter(self._definitions(target)), ast.Module([], []))
        if [type(each) for each in definition.body] != [ast.FunctionDef]:
            return None
        return signature_fingerprint(definition)

    def source(self, target: str) -> str:
        """Returns the statements that define a symbol, without comments and layout.

        Args:
            target: As for `fingerprint`. Of what the release does not have, "".
        """
        return "\n".join(ast.unparse(each) for each in self._definitions(target))

    def _definitions(self, target: str) -> list[ast.Module]:
        """Returns the definition of a symbol, and those that it overrides and calls."""
        for place in places_of(target):
            module, _, path = place.partition(":")
            name, _, attribute = path.partition(".")
            try:
                module, name = self._defining_module(module, name)
                if not attribute:
                    return [definition_of(self._tree(module), name)]
                found = list(self._inherited(module, name, attribute))
            except LookupError:
                continue
            if found:
                return found
        return []

    def _inherited(self, module: str, name: str, attribute: str) -> Iterator[ast.Module]:
        for place, owner in self._lineage(module, name):
            try:
                definition = definition_of(self._tree(place), f"{owner}.{attribute}")
            except LookupError:
                continue
            yield definition
            if not calls_overridden(definition, attribute):
                return

    def _lineage(self, module: str, name: str) -> Iterator[tuple[str, str]]:
        """Yields the module and name of a class and of those it inherits from."""
        yield module, name
        owner = _definition(self._tree(module), name)
        for base in owner.bases if isinstance(owner, ast.ClassDef) else []:
            try:
                yield from self._lineage(*self._defining_module(*self._place(module, base)))
            except LookupError:
                continue  # of another package

    def _defining_module(self, module: str, name: str) -> tuple[str, str]:
        """Follows the imports of a name, which may rename it, to where it is defined."""
        tree = self._tree(module)
        if _definition(tree, name) is not None:
            return module, name
        for source, imported, known_as in _imports(tree):
            if known_as not in (name, "*"):
                continue
            try:
                return self._defining_module(source, name if known_as == "*" else imported)
            except LookupError:
                continue
        for other in _other_names(tree, name):
            try:
                return self._defining_module(module, other)
            except LookupError:
                continue
        raise LookupError(name)

    def _place(self, module: str, base: ast.expr) -> tuple[str, str]:
        """Returns the module and the name of a base class, which a module writes as `base`."""
        plain = base.value if isinstance(base, ast.Subscript) else base
        outer, _, name = ast.unparse(plain).rpartition(".")
        if not outer:
            return module, name
        for source, imported, known_as in _imports(self._tree(module)):
            if known_as == outer:
                return f"{source}.{imported}", name
        raise LookupError(outer)

    def _tree(self, module: str) -> ast.Module:
        """Parses the source of a module. Raises LookupError if there is none."""
        if module not in self._trees:
            self._trees[module] = ast.parse(self._source(module.replace(".", "/")))
        return self._trees[module]

    def _source(self, path: str) -> str | bytes:
        # In 3.2 to 3.9, the public modules of Keras are in keras/api.
        package, _, inner = path.partition("/")
        for file in (f"{path}.py", f"{path}/__init__.py", f"{package}/api/{inner}/__init__.py"):
            try:
                return self._read(file)
            except KeyError:
                continue
        raise LookupError(path)


def _definition(tree: ast.Module, name: str) -> ast.stmt | None:
    """Returns the class or function of that name at the top of a module."""
    for each in tree.body:
        if isinstance(each, (ast.ClassDef, ast.FunctionDef)) and each.name == name:
            return each
    return None


def _imports(tree: ast.Module) -> list[tuple[str, str, str]]:
    """Returns (module, name, name here) of imports; those of the TensorFlow backend come first."""
    found = [
        (each.module, alias.name, alias.asname or alias.name)
        for each in _statements(tree.body)
        if isinstance(each, ast.ImportFrom) and each.module and not each.level
        for alias in each.names
    ]
    return sorted(found, key=lambda each: ".tensorflow" not in each[0])


def _other_names(tree: ast.Module, name: str) -> list[str]:
    """Returns what `name` is set to in `name = other`; if by backend, TensorFlow's comes first."""
    found = [
        each.value.id
        for each in _statements(tree.body)
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Name)
        if any(isinstance(target, ast.Name) and target.id == name for target in each.targets)
    ]
    return sorted(set(found) - {name}, key=lambda other: not other.startswith(("TF", "Tensor")))


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for each in body:
        yield each
        if isinstance(each, ast.If):
            yield from _statements([*each.body, *each.orelse])
