"""The house rules a reader could break without noticing: floors, quiet imports, short files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("strategies", "tfscale", "recipes")  # From the ground up.
LONGEST_FILE = 400

MODULE_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+", re.IGNORECASE)


def source_files(floor: str) -> list[Path]:
    return sorted((ROOT / floor).rglob("*.py"))


def above(floor: str) -> tuple[str, ...]:
    return FLOORS[FLOORS.index(floor) + 1 :]


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields line and module name of each import, wherever it stands, and of each lazy one.

    A lazy import is a string: a dotted module name (an entry of a table), or whatever is handed to
    `import_module` or `__import__`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if MODULE_NAME.fullmatch(node.value):
                yield node.lineno, node.value
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name in ("import_module", "__import__") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield node.lineno, first.value


def upward_imports(tree: ast.AST, floor: str) -> list[str]:
    return [
        f"line {line}: {module}"
        for line, module in imported_modules(tree)
        if module.split(".")[0] in above(floor)
    ]


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_downward_only(floor: str) -> None:
    found = {
        str(path.relative_to(ROOT)): upward_imports(ast.parse(path.read_text("utf-8")), floor)
        for path in source_files(floor)
    }
    assert found, f"{floor} holds no source"
    assert {path: imports for path, imports in found.items() if imports} == {}


@pytest.mark.parametrize(
    ("source", "is_upward"),
    [
        pytest.param("import tfscale", True, id="plain"),
        pytest.param("import numpy, recipes.digits as d", True, id="second of a list"),
        pytest.param("from tfscale.data import Pipeline", True, id="from"),
        pytest.param("def f():\n    import tfscale", True, id="inside a function"),
        pytest.param("if False:\n    from recipes import digits", True, id="inside a condition"),
        pytest.param("import_module('recipes')", True, id="import_module"),
        pytest.param("importlib.import_module('tfscale.data')", True, id="importlib attribute"),
        pytest.param("TABLE = {'pack': 'tfscale.data.pack'}", True, id="lazy table"),
        pytest.param("import strategies.cluster.cluster", False, id="own floor"),
        pytest.param("from . import tfscale", False, id="relative, own package"),
        pytest.param("import tfscale_extras", False, id="longer name"),
        pytest.param("'Use `python -m recipes.digits`.'", False, id="prose"),
        pytest.param("print('recipes')", False, id="a word"),
    ],
)
def test_each_way_of_importing_is_seen(source: str, is_upward: bool) -> None:
    assert bool(upward_imports(ast.parse(source), "strategies")) is is_upward


@pytest.mark.parametrize("floor", FLOORS)
def test_importing_a_package_loads_neither_tensorflow_nor_keras(floor: str) -> None:
    program = (
        f"import sys, {floor}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'keras', 'tensorflow'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "[]", "")


def test_no_source_file_is_longer_than_one_screenful_of_attention() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for floor in FLOORS
        for path in source_files(floor)
    }
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}
