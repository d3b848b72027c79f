"""A module that keeps state which is not in `module_state_table` fails here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.unit.module_state_table import STATE
from tests.unit.source_trees import source_trees

MUTATORS = re.compile(
    "add|append|appendleft|clear|discard|extend|insert|pop|popitem|remove|setdefault|update"
)
MUTABLE = re.compile(
    "ContextVar|Condition|Counter|Event|R?Lock|OrderedDict|Semaphore|Thread|count|cycle|deque|local"
    "|defaultdict|(Simple)?Queue|Weak(KeyDictionary|Set|ValueDictionary)"
)


def module_state(tree: ast.Module) -> set[str]:
    """Names in a module that may change after it was imported.

    An assignment at the top of the module whose value is empty, of a mutable class or of a subclass
    of `threading.local`; or whose name a function rebinds (`global`), changes by a method, or sets
    an item or an attribute of. A table that is written once and only read is none. And cached
    functions.
    """
    found = set(_cached(tree))
    changed = {name for node in tree.body for name in _changed_in_functions(node)}
    locals_here = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base) in ("threading.local", "local") for base in node.bases)
    }
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if not isinstance(target, ast.Name) or value is None:
                continue
            if target.id in changed or _is_mutable(value, locals_here):
                found.add(target.id)
    return found


def _cached(tree: ast.Module) -> Iterator[str]:
    owners = [("", tree), *((f"{n.name}.", n) for n in tree.body if isinstance(n, ast.ClassDef))]
    for prefix, owner in owners:
        for node in owner.body:  # type: ignore[attr-defined]
            for decorator in getattr(node, "decorator_list", ()):
                name = ast.unparse(decorator).partition("(")[0].rpartition(".")[2]
                if name in ("cache", "lru_cache"):
                    yield f"{prefix}{node.name}"


def _is_mutable(value: ast.expr, locals_here: set[str]) -> bool:
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func).partition("[")[0].rpartition(".")[2]
        is_empty = name in ("dict", "list", "set") and not value.args
        return is_empty or name in locals_here or MUTABLE.fullmatch(name) is not None
    if isinstance(value, ast.Dict):
        return not value.keys
    return isinstance(value, (ast.List, ast.Set)) and not value.elts


def _changed_in_functions(top: ast.stmt) -> Iterator[str]:
    if not isinstance(top, (ast.FunctionDef, ast.ClassDef)):
        return
    nodes = [*ast.walk(top)]
    own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    for node in nodes:
        if isinstance(node, ast.Global):
            yield from node.names
        changed: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed = node.func.value if MUTATORS.fullmatch(node.func.attr) else None
        elif isinstance(node, (ast.Subscript, ast.Attribute)):
            changed = node.value if not isinstance(node.ctx, ast.Load) else None
        if isinstance(changed, ast.Name) and changed.id not in own:
            yield changed.id


def test_the_table_lists_all_state_of_modules_and_nothing_else() -> None:
    trees = source_trees("strategies", "tfscale").items()
    found = {f"{module}:{name}" for module, tree in trees for name in module_state(tree)}
    listed = {state.name for state in STATE}
    assert (found - listed, listed - found) == (set(), set())  # not listed, gone


def test_each_row_says_what_it_contains_who_sets_it_and_when_it_ends() -> None:
    assert len({state.name for state in STATE}) == len(STATE)
    assert all(all(state) for state in STATE)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("A = {}", {"A"}, id="an empty dict"),
        pytest.param("A: dict[str, int] = {}", {"A"}, id="with a type"),
        pytest.param("A = weakref.WeakKeyDictionary()", {"A"}, id="a weak table"),
        pytest.param("A = ContextVar('a', default=None)", {"A"}, id="a context variable"),
        pytest.param("A = itertools.count(1)", {"A"}, id="a counter"),
        pytest.param("class _L(threading.local):\n    n = 0\nA = _L()", {"A"}, id="a local"),
        pytest.param("A = None\ndef f():\n    global A\n    A = 1", {"A"}, id="rebound"),
        pytest.param("A = {'a': 1}\ndef f():\n    A['b'] = 2", {"A"}, id="an item is set"),
        pytest.param("A = [1]\ndef f():\n    A.append(2)", {"A"}, id="a method changes it"),
        pytest.param("A = B()\ndef f():\n    A.b = 2", {"A"}, id="an attribute is set"),
        pytest.param("@functools.cache\ndef f(): ...", {"f"}, id="a cached function"),
        pytest.param("class C:\n    @cache\n    def f(self): ...", {"C.f"}, id="a cached method"),
        pytest.param("A = {'a': 1}\ndef f():\n    return A['a']", set(), id="a table only read"),
        pytest.param("A = B()\nA.b = 2", set(), id="set up as it is imported"),
        pytest.param("A = [1]\ndef f(A):\n    A.append(2)", set(), id="an argument of that name"),
        pytest.param("A = frozenset({1})", set(), id="a constant"),
    ],
)
def test_each_kind_of_state_is_seen(source: str, expected: set[str]) -> None:
    assert module_state(ast.parse(source)) == expected
