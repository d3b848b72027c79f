"""The parsed sources of this repository's packages."""

from __future__ import annotations

import ast
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
