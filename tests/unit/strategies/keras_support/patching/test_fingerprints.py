"""A fingerprint changes with the behaviour of the source, and not with its layout."""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from strategies.keras_support.patching.fingerprints import (
    Recognition,
    fingerprint,
    recognition,
    signature_fingerprint,
    source_tree,
)

Load = Callable[[str], ModuleType]

FUNCTION = """
def weigh(loss, examples=1, *, scale=2.0):
    total = loss * examples
    if total > 0:
        total = total + scale
    return total
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes a source to a new module and imports it."""
    numbers = itertools.count()

    def load(source: str) -> ModuleType:
        path = tmp_path / f"upstream_{next(numbers)}.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(
            sys.modules, path.stem, module
        )  # where the source of a class is looked up
        spec.loader.exec_module(module)
        return module

    return load


def test_a_fingerprint_is_twelve_hexadecimal_digits_and_stays(load: Load) -> None:
    first = fingerprint(load(FUNCTION).weigh)
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert fingerprint(load(FUNCTION).weigh) == first


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("scale=2.0):\n", 'scale=2.0):\n    """Weighs."""\n', id="a docstring"),
        pytest.param("    total = loss", "    # First of all.\n    total = loss", id="a comment"),
        pytest.param("    return total", "\n\n    return (total)  # here", id="layout"),
        pytest.param("(loss, examples=1, *, scale=2.0)", "(\n  loss, examples=1,\n *, scale=2.0,)"),
        pytest.param("2.0", "2.00", id="another spelling of a constant"),
    ],
)
def test_docstrings_comments_and_layout_do_not_matter(load: Load, old: str, new: str) -> None:
    assert FUNCTION.count(old) == 1
    changed = FUNCTION.replace(old, new)
    assert fingerprint(load(changed).weigh) == fingerprint(load(FUNCTION).weigh)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("2.0", "2.5", id="a constant"),
        pytest.param("2.0", "2", id="the type of a constant"),
        pytest.param("examples=1", "examples=None", id="a default"),
        pytest.param("loss, examples=1", "loss, count=1, examples=1", id="a new argument"),
        pytest.param(" *,", "", id="an argument that may be positional"),
        pytest.param("loss * examples", "loss / examples", id="an operator"),
        pytest.param("> 0", ">= 0", id="a comparison"),
        pytest.param("total + scale", "scale + total", id="the order of operands"),
        pytest.param("    return total", "    return loss", id="a name"),
        pytest.param("    return total", "    total = 0\n    return total", id="a new statement"),
        pytest.param("        total = total + scale\n", "        pass\n", id="a lost statement"),
        pytest.param("    return total", "        return total", id="the block of a statement"),
    ],
)
def test_a_change_of_behaviour_changes_the_fingerprint(load: Load, old: str, new: str) -> None:
    assert old in FUNCTION
    changed = FUNCTION.replace(old, new)
    assert fingerprint(load(changed).weigh) != fingerprint(load(FUNCTION).weigh)


CLASS = """
class Optimizer:
    '''Takes steps.'''

    rate = 0.1

    def step(self, grads):
        '''Takes one.'''

        def scaled(grad):
            '''Scales one.'''
            return grad * self.rate

        return [scaled(grad) for grad in grads]
"""


def test_docstrings_inside_classes_and_nested_functions_do_not_matter(load: Load) -> None:
    plain = re.sub("'''.*?'''", "", CLASS).replace("(self, grads):", "(self, grads):  # one step")
    assert fingerprint(load(plain).Optimizer) == fingerprint(load(CLASS).Optimizer)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("grad * self.rate", "grad / self.rate", id="in a nested function"),
        pytest.param("0.1", "0.2", id="in the class"),
        pytest.param("in grads]", "in grads if grad]", id="in a method"),
        pytest.param("class Optimizer:", "class Optimizer(dict):", id="a base class"),
        pytest.param("    def step", "    @staticmethod\n    def step", id="a decorator"),
    ],
)
def test_a_change_anywhere_inside_a_class_changes_its_fingerprint(
    load: Load, old: str, new: str
) -> None:
    assert CLASS.count(old) == 1
    changed = CLASS.replace(old, new)
    assert fingerprint(load(changed).Optimizer) != fingerprint(load(CLASS).Optimizer)


def test_a_method_has_the_fingerprint_of_the_same_function(load: Load) -> None:
    body = "def step(grads):\n    return [-grad for grad in grads]\n"
    method = f"class Optimizer:\n{textwrap.indent(body, '    ')}"
    assert fingerprint(load(method).Optimizer.step) == fingerprint(load(body).step)


def test_a_string_that_is_a_value_is_not_a_docstring(load: Load) -> None:
    one, two = load("def mode():\n    return 'sum'"), load("def mode():\n    return 'mean'")
    assert fingerprint(one.mode) != fingerprint(two.mode)


def test_a_symbol_without_source_is_refused() -> None:
    with pytest.raises((OSError, TypeError)):
        fingerprint(len)


def recognised(before: ModuleType, after: ModuleType) -> Recognition:
    """How a changed `weigh` is recognised if the source and the signature of one are accepted."""
    known = source_tree(before.weigh)
    accepted = {fingerprint(before.weigh), signature_fingerprint(known)}
    return recognition([source_tree(after.weigh)], accepted)


def test_a_signature_is_accepted_where_the_body_changed(load: Load) -> None:
    changed = FUNCTION.replace("loss * examples", "loss / examples")
    assert recognised(load(FUNCTION), load(FUNCTION)) is Recognition.SOURCE
    assert recognised(load(FUNCTION), load(changed)) is Recognition.SIGNATURE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("def weigh(", "@staticmethod\ndef weigh(", id="a decorator"),
        pytest.param("examples=1", "examples=2", id="a default"),
        pytest.param("examples=1", "rows=1, examples=1", id="an argument"),
        pytest.param("*, scale", "scale", id="an argument by position"),
    ],
)
def test_another_signature_is_not_recognised(load: Load, old: str, new: str) -> None:
    assert recognised(load(FUNCTION), load(FUNCTION.replace(old, new))) is Recognition.NONE


def test_a_body_is_not_recognised_if_only_sources_are_accepted(load: Load) -> None:
    accepted = {fingerprint(load(FUNCTION).weigh)}
    changed = load(FUNCTION.replace("loss * examples", "loss / examples")).weigh
    assert recognition([source_tree(changed)], accepted) is Recognition.NONE
