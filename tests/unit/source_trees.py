"""The parsed sources of this repository's packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def source_trees(*packages: str) -> dict[str, ast.Module]:
    """Returns the syntax trees of all modules of packages, by the module's name."""
    trees = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            trees[name] = ast.parse(path.read_text("utf-8"))
    return trees


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yields all statements, of any depth, without walking their expressions."""
    open_nodes = [tree]
    while open_nodes:
        node = open_nodes.pop()
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            nodes = getattr(node, field, None)
            if isinstance(nodes, list):  # a lambda's body and a condition's are expressions
                open_nodes += nodes
                yield from (each for each in nodes if isinstance(each, ast.stmt))
