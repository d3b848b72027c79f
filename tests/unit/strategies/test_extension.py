"""The table of names that `tfscale` takes from `strategies`."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import itertools
from pathlib import Path

import pytest

from strategies import extension
from tests.programs import completed

ROOT = Path(__file__).resolve().parents[3]


def imported(path: Path, module: str) -> set[str]:
    """The names that a file imports from a module."""
    return {
        alias.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }


@functools.cache
def documented_constants() -> set[str]:
    """The names that a file of `strategies` assigns to and documents in the next line."""
    found = set()
    for path in (ROOT / "strategies").rglob("*.py"):
        for node, after in itertools.pairwise(ast.parse(path.read_text("utf-8")).body):
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                if isinstance(node, ast.Assign):
                    found |= {ast.unparse(target) for target in node.targets}
                elif isinstance(node, ast.AnnAssign):
                    found.add(ast.unparse(node.target))
    return found


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh process has imported after a statement."""
    done = completed("-c", f"import sys\n{statement}\nprint(*sys.modules)", timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", sorted(extension.__all__))
def test_a_name_is_that_of_its_module_and_has_a_docstring(name: str) -> None:
    module = extension._MODULE_OF[name]
    value = getattr(extension, name)
    assert value is getattr(importlib.import_module(module), name)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value)
    else:
        assert name in documented_constants()


def test_mypy_is_shown_the_names_that_python_finds() -> None:
    found = {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(inspect.getsource(extension)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("strategies.")
        for alias in node.names
    }
    assert found == {(module, name) for name, module in extension._MODULE_OF.items()}


def test_every_name_is_used_by_tfscale() -> None:
    used = set().union(
        *(imported(path, "strategies.extension") for path in (ROOT / "tfscale").rglob("*.py"))
    )
    assert set(extension.__all__) - used == set()


def test_a_public_name_of_the_package_is_not_exported_twice() -> None:
    import strategies

    assert set(extension.__all__) & set(strategies.__all__) == set()


def test_importing_the_table_imports_none_of_its_modules() -> None:
    after = modules_after("import strategies.extension")
    assert after - modules_after("import strategies") == {"strategies.extension"}


@pytest.mark.parametrize("name", ["ExitReason", "JobStart", "number"])
def test_taking_a_name_imports_its_module_only(name: str) -> None:
    module = extension._MODULE_OF[name]
    after = modules_after(f"from strategies.extension import {name}")
    assert after == modules_after(f"import strategies.extension, {module}")
    assert not after & {"tensorflow", "keras", "numpy"}


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match=r"'strategies\.extension' has no attribute 'gone'"):
        _ = extension.gone
