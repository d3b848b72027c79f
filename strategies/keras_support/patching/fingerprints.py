"""Fingerprints of upstream source: a patch replaces only the code that it was written for.

A version number is not enough: a patch release may change the function that is replaced, and most
releases do not. So the syntax tree is compared, without docstrings, comments and layout.

Some replacements depend on the arguments of a function only: they call the original unchanged, or
skip it. For these the fingerprint of the signature is accepted too; it is written with `()` before
its digits. A changed body is then accepted, but `make matrix-nightly` fails until a maintainer has
read it and added its fingerprint. A method that the named class inherits is not accepted by its
signature: it may be the method of an unrelated base class.
"""

from __future__ import annotations

import ast
import enum
import hashlib
import inspect
import textwrap
from collections.abc import Collection, Iterator, Sequence


def fingerprint(*symbols: object) -> str:
    """Returns twelve hexadecimal digits of the SHA-256 of syntax trees.

    Args:
        *symbols: Python functions, classes or properties whose sources can be found.

    Raises:
        OSError: If Python cannot find the source of one.

    Example:
        >>> fingerprint(fingerprint) == fingerprint(fingerprint)
        True
    """
    return tree_fingerprint(*(source_tree(each) for each in symbols))


def source_tree(symbol: object) -> ast.Module:
    """Returns the syntax tree of a Python function, class or property.

    Raises:
        OSError: If Python cannot find its source.
    """
    function = symbol.fget if isinstance(symbol, property) else symbol
    return ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]


def calls_overridden(definition: ast.AST, name: str) -> bool:
    """Tells whether a method calls the one that it overrides, by `super().name(...)`.

    Args:
        definition: The method.
        name: Its name.
    """
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", "") == "super"
        for node in ast.walk(definition)
    )


def tree_fingerprint(*trees: ast.Module) -> str:
    """Returns the fingerprint of statements that were parsed already; see `fingerprint`."""
    whole = ast.Module([statement for tree in trees for statement in tree.body], [])
    digest = hashlib.sha256("\n".join(_lines(whole)).encode())
    return digest.hexdigest()[:12]


def signature_fingerprint(tree: ast.Module) -> str:
    """Returns the fingerprint of a function's name, arguments and decorators, as `"()..."`."""
    function = tree.body[0]
    if len(tree.body) != 1 or not isinstance(function, ast.FunctionDef):
        raise TypeError(f"only a single function has a signature, not {ast.unparse(tree)[:80]}")
    bare = ast.FunctionDef(
        function.name, function.args, [ast.Pass()], function.decorator_list, None, None
    )
    return "()" + tree_fingerprint(ast.Module([bare], []))


class Recognition(enum.Enum):
    """How the source of a symbol compares with those that are accepted."""

    SOURCE = "recognised"
    SIGNATURE = "recognised by its arguments"
    NONE = "changed"


def recognition(
    trees: Sequence[ast.Module], accepted: Collection[str], *, is_inherited: bool = False
) -> Recognition:
    """Compares a symbol with what is accepted.

    Args:
        trees: Its definition, and those that it overrides and calls.
        accepted: Fingerprints of sources, and of signatures.
        is_inherited: Whether the class that is named inherits the symbol.

    Raises:
        TypeError: If a signature is accepted, and the symbol is not a single function.
    """
    if tree_fingerprint(*trees) in accepted:
        return Recognition.SOURCE
    signatures = {each for each in accepted if each.startswith("()")}
    if signatures and not is_inherited and signature_fingerprint(trees[0]) in signatures:
        return Recognition.SIGNATURE
    return Recognition.NONE


def _lines(node: ast.AST, depth: int = 0) -> Iterator[str]:
    """Walks a tree in a form that Python 3.11 to 3.13 agree on.

    `ast.dump` will not do: 3.13 leaves out empty fields, and 3.12 adds `type_params`.
    """
    yield f"{depth}{type(node).__name__}"
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = _without_docstring(value)
        if value is None or value == [] or name == "kind":
            continue
        yield f"{depth}.{name}"
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                yield from _lines(item, depth + 1)
            else:
                yield f"{depth}={item!r}"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return body[1:]
    return body
