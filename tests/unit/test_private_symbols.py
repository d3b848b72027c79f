"""Private symbols of Keras and TensorFlow: each use is in a table, and each row is in use."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Collection
from pathlib import Path

import pytest

from strategies.keras_support.patches import PATCHES
from strategies.keras_support.patching.fingerprints import tree_fingerprint
from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_symbol import (
    PrivateSymbol,
    definition_of,
    require_recognised,
)
from strategies.keras_support.patching.private_tensorflow import TENSORFLOW_SYMBOLS
from tests.unit.private_uses import Use, own_names, private_uses
from tests.unit.source_trees import source_trees
from tfscale.preflight.private_symbols import PREFLIGHT_SYMBOLS

SYMBOLS = (*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS, *PREFLIGHT_SYMBOLS)
Trees = dict[str, ast.Module]


@pytest.fixture(scope="module")
def trees() -> Trees:
    return source_trees("strategies", "tfscale", "recipes")


@pytest.fixture(scope="module")
def uses(trees: Trees) -> list[Use]:
    own = own_names(trees.values())
    return [use for name, tree in trees.items() for use in private_uses(name, tree, own)]


def members(symbol: PrivateSymbol) -> set[str]:
    """The private names that a class of a table defines, where the row is of the whole class."""
    module, _, path = symbol.target.partition(":")
    if "." in path or not path.strip("_")[:1].isupper():
        return set()
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    # TensorFlow has functions with the names of classes.
    owners: list[ast.stmt] = [
        n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == path
    ]
    return own_names([ast.Module(owners, [])])


def is_in(module: str, places: Collection[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def names(symbol: str, use: Use) -> bool:
    """Tells whether a use is of a symbol, of its class, or of an attribute of that name."""
    if ":" in use.name:
        return symbol == use.name or symbol.startswith(f"{use.name}.")
    return symbol.replace(":", ".").rpartition(".")[2] == use.name


def test_every_private_symbol_in_use_has_a_row(uses: list[Use]) -> None:
    of_classes = {symbol: members(symbol) for symbol in SYMBOLS}
    missing = [
        use
        for use in uses
        if not any(
            is_in(use.module, symbol.used_in)
            and (names(symbol.target, use) or use.name in of_classes[symbol])
            for symbol in SYMBOLS
        )
        and not any(names(patch.target, use) for patch in PATCHES)
    ]
    assert missing == []


def test_every_row_is_in_use_where_it_says(trees: Trees) -> None:
    written = {name: ast.unparse(tree) for name, tree in trees.items()}
    stale = [
        (symbol.target, place)
        for symbol in SYMBOLS
        for place in symbol.used_in
        if not any(
            symbol.target.replace(":", ".").rpartition(".")[2] in text
            or symbol.target.rpartition(":")[2].partition(".")[0] in text
            for name, text in written.items()
            if is_in(name, [place]) and not name.rpartition(".")[2].startswith("private_")
        )
    ]
    assert stale == []


def test_the_installed_releases_are_those_the_tables_were_written_with() -> None:
    found = {symbol.target: symbol.fingerprint() for symbol in SYMBOLS}
    changed = {symbol.target for symbol in SYMBOLS if found[symbol.target] not in symbol.accepted}
    assert changed == set()


def test_a_symbol_and_its_places_are_listed_once() -> None:
    rows = [(symbol.target, symbol.purpose) for symbol in SYMBOLS]
    assert len(rows) == len(set(rows))
    assert all(symbol.purpose and symbol.used_in for symbol in SYMBOLS)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("value = variable._value", ["_value"], id="an attribute"),
        pytest.param("getattr(value, '_handle', None)", ["_handle"], id="by name"),
        pytest.param("vars(value).get('_handle')", ["_handle"], id="in vars"),
        pytest.param("for n in ('_a', '_b'):\n    getattr(x, n)", ["_a", "_b"], id="in a loop"),
        pytest.param(
            "from tensorflow.python.eager import context\ncontext.global_seed()",
            ["tensorflow.python.eager.context:global_seed"],
            id="a member of a module",
        ),
        pytest.param(
            "from keras.src.trainers.epoch_iterator import EpochIterator",
            ["keras.src.trainers.epoch_iterator:EpochIterator"],
            id="a name",
        ),
        pytest.param("def f(self):\n    self._value = 1", ["_value"], id="set by a replacement"),
        pytest.param("class A:\n    def f(self):\n        self._b = 1", [], id="of one's own"),
        pytest.param("import sys\nsys._getframe(1)", [], id="of Python"),
        pytest.param("import keras\nkeras.layers.Dense(1)", [], id="public"),
        pytest.param("x = '_value'", [], id="text"),
    ],
)
def test_each_way_of_using_a_private_symbol_is_seen(source: str, expected: list[str]) -> None:
    tree = ast.parse(source)
    found = private_uses("m", tree, own_names([tree]))
    assert [use.name for use in found] == expected


def fingerprint_of(source: str, path: str) -> str:
    return tree_fingerprint(definition_of(ast.parse(source), path))


UPSTREAM = """
class Variable:
    \"\"\"Holds a value.\"\"\"

    kind = "plain"

    def __init__(self, value):
        self.name = "v"
        if value is not None:
            self._value = value

    @property
    def value(self):
        return self._value

    def reset(self):
        self._value = None
"""


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        pytest.param("Variable._value", "self._value = value", "self._value = [value]", id="set"),
        pytest.param("Variable._value", "self._value = None", "pass", id="no longer set"),
        pytest.param("Variable.value", "return self._value", "return self.name", id="a property"),
        pytest.param("Variable.value", "@property", "@cache", id="a decorator"),
        pytest.param("Variable.kind", '"plain"', '"copied"', id="an attribute of the class"),
        pytest.param("Variable", "= None", "= 0", id="a whole class"),
    ],
)
def test_a_change_of_a_symbol_changes_its_fingerprint(path: str, old: str, new: str) -> None:
    before = fingerprint_of(UPSTREAM, path)
    assert fingerprint_of(UPSTREAM.replace(old, new), path) != before


def test_a_change_elsewhere_leaves_an_attributes_fingerprint() -> None:
    before = fingerprint_of(UPSTREAM, "Variable._value")
    changed = UPSTREAM.replace('self.name = "v"', "self.name = str(value)")
    assert fingerprint_of(changed, "Variable._value") == before


@pytest.mark.parametrize("path", ["Other", "Variable._other", "Other.value", "Variable.value.x"])
def test_what_is_gone_has_no_fingerprint(path: str) -> None:
    with pytest.raises(LookupError):
        fingerprint_of(UPSTREAM, path)


def test_a_change_refuses_what_needs_the_symbol_and_nothing_else() -> None:
    copies = PrivateSymbol("keras:Variable.gone", ("0" * 12,), Need.COPIES, ("a",), "b")
    reports = PrivateSymbol("keras.src.gone:f", ("0" * 12,), Need.REPORTS, ("a",), "b")
    require_recognised((copies, reports), Need.TRAINING)
    with pytest.raises(
        RuntimeError, match=r"which keras:Variable\.gone changed\. Install releases"
    ):
        require_recognised((copies, reports), Need.COPIES)
