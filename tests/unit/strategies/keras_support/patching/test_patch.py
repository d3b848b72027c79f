"""A patch replaces a symbol once, only if it knows the code, and returns the original.

The symbols here are in modules written for the test; Keras's symbols are tested with the table.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strategies.keras_support.patching.fingerprints import (
    fingerprint,
    signature_fingerprint,
    source_tree,
)
from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.patch import Patch

SOURCE = """
class Trainer:
    def step(self, rows):
        return rows + 1

def total(rows):
    return rows * 10

class Row:
    def __new__(cls):
        return super().__new__(cls)

class Base:
    def step(self, rows):
        return rows + 1

class Derived(Base):
    pass

class Extended(Base):
    def step(self, rows):
        return super().step(rows) * 3
"""
UNKNOWN = frozenset({"0123456789ab"})
_NUMBERS = itertools.count()


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that has not been imported before."""
    name = f"upstream_of_patches_{next(_NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


def negated(original: Callable[..., int]) -> Callable[..., int]:
    def replacement(*arguments: Any) -> int:
        return -original(*arguments)

    return replacement


def patch_at(symbol: Any, target: str) -> Patch:
    return Patch(target, frozenset({fingerprint(symbol)}), negated)


def test_a_method_is_replaced_for_instances_old_and_new(upstream: Any) -> None:
    before = upstream.Trainer()
    patch_at(upstream.Trainer.step, f"{upstream.__name__}:Trainer.step").install()
    assert (before.step(1), upstream.Trainer().step(1)) == (-2, -2)


def test_a_function_is_replaced_in_its_module(upstream: Any) -> None:
    patch_at(upstream.total, f"{upstream.__name__}:total").install()
    assert upstream.total(2) == -20


def test_installing_twice_replaces_once(upstream: Any) -> None:
    patch = patch_at(upstream.total, f"{upstream.__name__}:total")
    patch.install()
    replaced = upstream.total
    patch.install()
    assert upstream.total is replaced
    assert upstream.total(2) == -20  # twice negated would be 20


def test_a_patch_knows_whether_it_is_installed_and_what_it_replaces(upstream: Any) -> None:
    original = upstream.Trainer.step
    patch = patch_at(original, f"{upstream.__name__}:Trainer.step")
    assert (patch.is_installed(), patch.is_recognised()) == (False, True)
    assert patch.original() is original
    patch.install()
    assert (patch.is_installed(), patch.is_recognised()) == (True, True)
    assert patch.original() is original
    assert upstream.Trainer.step is not original


def test_any_of_several_known_sources_is_accepted(upstream: Any) -> None:
    known = frozenset({"0" * 12, fingerprint(upstream.total), "f" * 12})
    Patch(f"{upstream.__name__}:total", known, negated).install()
    assert upstream.total(1) == -10


def test_an_unknown_source_is_refused_by_name_and_by_what_needs_it(upstream: Any) -> None:
    target = f"{upstream.__name__}:Trainer.step"
    patch = Patch(target, UNKNOWN, negated, Need.PREDICT)
    message = rf"supports for predict\. Received: Keras .* in which {target} changed\. Install"
    with pytest.raises(RuntimeError, match=message):
        patch.install()


def test_a_refused_symbol_is_not_changed(upstream: Any) -> None:
    original = upstream.Trainer.step
    patch = Patch(f"{upstream.__name__}:Trainer.step", UNKNOWN, negated)
    with pytest.raises(RuntimeError):
        patch.install()
    assert upstream.Trainer.step is original
    assert not patch.is_installed()


def test_a_patch_is_installed_for_as_long_as_its_context(upstream: Any) -> None:
    original = upstream.total
    patch = patch_at(upstream.total, f"{upstream.__name__}:total")
    with patch.installed():
        assert upstream.total(2) == -20
    assert upstream.total is original
    with pytest.raises(TypeError), patch.installed():
        upstream.total()
    assert upstream.total is original


def test_a_patch_that_was_installed_before_its_context_stays(upstream: Any) -> None:
    patch = patch_at(upstream.total, f"{upstream.__name__}:total")
    patch.install()
    with patch.installed():
        assert upstream.total(2) == -20
    assert patch.is_installed()


def test_a_static_method_is_replaced_and_put_back(upstream: Any) -> None:
    def doubled(original: Any) -> Any:
        return staticmethod(lambda cls: original.__func__(cls))

    before = vars(upstream.Row)["__new__"]
    target = f"{upstream.__name__}:Row.__new__"
    patch = Patch(target, frozenset({fingerprint(before)}), doubled)
    with patch.installed():
        assert vars(upstream.Row)["__new__"] is not before
        assert isinstance(upstream.Row(), upstream.Row)
    assert vars(upstream.Row)["__new__"] is before


def test_an_inherited_method_is_replaced_where_it_is_defined(upstream: Any) -> None:
    original = upstream.Base.step
    patch = patch_at(original, f"{upstream.__name__}:Derived.step")
    assert patch.original() is original
    with patch.installed():
        assert (upstream.Base().step(1), upstream.Derived().step(1)) == (-2, -2)
        assert "step" not in vars(upstream.Derived)
    assert upstream.Base.step is original


def test_a_fingerprint_includes_the_method_that_is_overridden_and_called(upstream: Any) -> None:
    patch = Patch(f"{upstream.__name__}:Extended.step", UNKNOWN, negated)
    before = patch.fingerprint()
    assert before == fingerprint(upstream.Extended.step, upstream.Base.step)
    assert before != fingerprint(upstream.Extended.step)


def test_a_function_is_replaced_also_where_a_module_imported_it_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"package_of_patches_{next(_NUMBERS)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "loss.py").write_text("def total(rows):\n    return rows * 10\n")
    user = "from .loss import total\n\ndef twice(rows):\n    return 2 * total(rows)\n"
    (tmp_path / package / "losses.py").write_text(user)
    (tmp_path / "bystander.py").write_text(f"from {package}.loss import total\n")
    monkeypatch.syspath_prepend(tmp_path)
    loss, losses, bystander = (
        importlib.import_module(name)
        for name in (f"{package}.loss", f"{package}.losses", "bystander")
    )
    with patch_at(loss.total, f"{package}.loss:total").installed():
        assert losses.twice(1) == -20
        assert bystander.total(1) == 10  # of another package
    assert losses.twice(1) == 20


def test_a_refused_method_calls_the_original_outside_of_our_strategies(upstream: Any) -> None:
    patch = Patch(f"{upstream.__name__}:Derived.step", UNKNOWN, negated, Need.PREDICT)
    patch.refuse()
    assert upstream.Derived().step(1) == 2
    assert not patch.is_installed()
    assert "step" in vars(upstream.Derived)
    assert upstream.Base().step(1) == 2


def plain(original: Callable[..., int]) -> Callable[..., int]:
    """A wrapper of another library, which nothing shows to be one."""

    def wrapper(*arguments: Any) -> int:
        return original(*arguments) + 100

    return wrapper


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_an_inherited_method_that_another_library_wrapped_is_replaced_below_the_wrapper(
    upstream: Any, is_wrapped: bool
) -> None:
    original = upstream.Base.step
    wrapper = plain(original)
    upstream.Derived.step = functools.wraps(original)(wrapper) if is_wrapped else wrapper
    patch = patch_at(original, f"{upstream.__name__}:Derived.step")
    assert patch.is_recognised()
    with patch.installed():
        assert vars(upstream.Derived)["step"] is not original
        assert upstream.Base().step(1) == -2
        del upstream.Derived.step  # the other library is switched off
        assert upstream.Derived().step(1) == -2


def test_an_own_method_that_another_library_wrapped_is_replaced_around_the_wrapper(
    upstream: Any,
) -> None:
    original = upstream.Trainer.step
    upstream.Trainer.step = functools.wraps(original)(plain(original))
    with patch_at(original, f"{upstream.__name__}:Trainer.step").installed():
        assert upstream.Trainer().step(1) == -102


def test_a_signature_does_not_accept_the_method_of_a_base_class(upstream: Any) -> None:
    signature = signature_fingerprint(source_tree(upstream.Base.step))
    own = Patch(f"{upstream.__name__}:Base.step", frozenset({signature}), negated)
    inherited = Patch(f"{upstream.__name__}:Derived.step", frozenset({signature}), negated)
    assert (own.is_recognised(), inherited.is_recognised()) == (True, False)


@pytest.mark.parametrize("kind", [functools.partialmethod, property])
def test_what_is_no_function_is_left_as_it_is_where_it_would_be_refused(
    upstream: Any, kind: Callable[[Any], Any]
) -> None:
    upstream.Trainer.step = changed = kind(upstream.Trainer.step)
    patch = Patch(f"{upstream.__name__}:Trainer.step", UNKNOWN, negated, Need.PREDICT)
    assert not patch.can_refuse()
    patch.refuse()
    assert vars(upstream.Trainer)["step"] is changed


def test_a_symbol_that_is_gone_is_not_recognised_and_its_refusal_does_nothing(
    upstream: Any,
) -> None:
    patch = Patch(f"{upstream.__name__}:Trainer.gone", UNKNOWN, negated, Need.PREDICT)
    assert (patch.can_refuse(), patch.is_recognised()) == (False, False)
    patch.refuse()
    assert not hasattr(upstream.Trainer, "gone")
