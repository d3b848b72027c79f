"""Every example in a docstring runs, and prints what it says."""

from __future__ import annotations

import ast
import doctest
import inspect
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import strategies
import tfscale
from tests.programs import ROOT, completed, forked

PACKAGES = ("strategies", "tfscale", "recipes")
# They need a cluster or a TPU.
SKIPPED = {
    "strategies.multi_worker_mirrored",
    "strategies.parameter_server",
    "strategies.tpu.strategy",
}


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""


def texts_by_module() -> dict[str, list[str]]:
    """The docstrings that contain examples, by the module they are in."""
    found: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if ">>>" not in path.read_text("utf-8"):
                continue
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if texts := [text for text in docstrings(path) if ">>>" in text]:
                found[name] = texts
    return found


TEXTS = texts_by_module()


def examples(module: str) -> list[doctest.Example]:
    parse = doctest.DocTestParser().get_examples
    return [example for text in TEXTS[module] for example in parse(text)]


def is_skipped(example: doctest.Example) -> bool:
    return doctest.SKIP in example.options


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """What became of the examples of each module, run in one process."""
    done = completed(*forked("-m", "tests.unit.docstring_examples", *TEXTS), timeout=400)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"ended after {lines[-1:]}: {done.stderr[-4000:]}"
    return {result["module"]: result for result in map(json.loads, lines)}


@pytest.mark.parametrize("module", TEXTS)
def test_examples_of_a_module_print_what_they_say(
    module: str, results: dict[str, dict[str, Any]]
) -> None:
    assert results[module]["report"] == ""
    assert results[module]["ran"] == sum(not is_skipped(example) for example in examples(module))


def test_only_what_needs_a_cluster_or_a_tpu_is_skipped_and_a_comment_says_so() -> None:
    assert {module for module in TEXTS if any(map(is_skipped, examples(module)))} == SKIPPED
    for module in SKIPPED:
        lines = "\n".join(TEXTS[module]).splitlines()
        before = [line for line, after in itertools.pairwise(lines) if "+SKIP" in after]
        assert all(line.strip().startswith(">>> # ") for line in before)


def public_functions(package: ModuleType) -> dict[str, Any]:
    """The functions that `__all__` of a package names, and of the modules that it names."""
    values = [(package, name) for name in package.__all__]
    modules = [getattr(package, name) for _, name in values]
    for module in filter(inspect.ismodule, modules):
        values += [(module, name) for name in module.__all__]
    named = {f"{owner.__name__}.{name}": getattr(owner, name) for owner, name in values}
    return {name: value for name, value in named.items() if inspect.isfunction(value)}


@pytest.mark.parametrize("package", [strategies, tfscale], ids=lambda package: package.__name__)
def test_each_public_function_has_an_example(package: ModuleType) -> None:
    functions = public_functions(package)
    assert len(functions) > 5
    without = [name for name, value in functions.items() if ">>>" not in (value.__doc__ or "")]
    assert without == []
