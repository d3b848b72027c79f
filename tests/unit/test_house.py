"""The house rules that a change could break unnoticed: layers, quiet imports, short files."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import strategies.extension
from tests.unit.source_trees import statements

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("strategies", "tfscale", "recipes")  # From the ground up.
LONGEST_FILE = 400

KERAS_SUPPORT = "strategies.keras_support"
ROOMS = (  # Of strategies.keras_support, from the ground up: each imports from those before it.
    "patching",
    "input",
    "context",
    "model",
    "metrics",
    "placement",
    "sharding",
    "tensor",
    "gradients",
    "state",
    "step",
    "pipeline",
    "local_sgd",
    "asynchronous",
    "workers",
    "callback_order",
    "dispatch",
    "patches",
    "defects",
    "installation",
    "__init__",
)

MODULE_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+", re.IGNORECASE)


def source_files(floor: str) -> list[Path]:
    return sorted((ROOT / floor).rglob("*.py"))


def above(floor: str) -> tuple[str, ...]:
    return FLOORS[FLOORS.index(floor) + 1 :]


def imported_names(tree: ast.AST) -> Iterator[tuple[int, str, str | None]]:
    """Yields line, module and name of each import anywhere in a file; None for a whole module.

    A lazy import is a string: a dotted module name (an entry of a table), or the argument of
    `import_module` or `__import__`. An attribute of a floor, `tfscale.data`, counts as a name.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield node.lineno, node.module, alias.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in FLOORS:
                yield node.lineno, node.value.id, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if MODULE_NAME.fullmatch(node.value):
                yield node.lineno, node.value, None
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name in ("import_module", "__import__") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield node.lineno, first.value, None


def upward_imports(tree: ast.AST, floor: str) -> list[str]:
    return [
        f"line {line}: {module}"
        for line, module, _ in imported_names(tree)
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


@functools.cache
def public_names(module: str) -> list[str]:
    """The names that floors above may take from a module: its `__all__`, or none."""
    if module == "strategies.extension":
        return strategies.extension.__all__
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text("utf-8")).body if file.is_file() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def is_public(floor: str, module: str, name: str | None) -> bool:
    """Whether a floor may take a name from a module, or the whole module where it is None."""
    package, *below = module.split(".")
    if package not in FLOORS[: FLOORS.index(floor)]:
        return True
    if package == "strategies" and (floor, below or [str(name)]) == ("tfscale", ["extension"]):
        return name in (None, "extension", *strategies.extension.__all__)
    may_be_below = package == "tfscale" and len(below) == 1
    return (not below or may_be_below) and name in (None, *public_names(module))


def deep_imports(tree: ast.AST, floor: str) -> list[str]:
    return [
        f"line {line}: {module}, {name or 'the module'}"
        for line, module, name in imported_names(tree)
        if not is_public(floor, module, name)
    ]


@pytest.mark.parametrize("floor", FLOORS[1:])
def test_a_floor_takes_only_public_names_of_the_floors_below(floor: str) -> None:
    found = {
        str(path.relative_to(ROOT)): deep_imports(ast.parse(path.read_text("utf-8")), floor)
        for path in source_files(floor)
    }
    assert {path: imports for path, imports in found.items() if imports} == {}


@pytest.mark.parametrize(
    ("floor", "source", "is_deep"),
    [
        pytest.param("tfscale", "import strategies", False, id="the package"),
        pytest.param("tfscale", "from strategies import Cluster", False, id="a public name"),
        pytest.param("tfscale", "from strategies import arguments", True, id="a module as a name"),
        pytest.param("tfscale", "from strategies.cluster import chief", True, id="a module"),
        pytest.param("tfscale", "import strategies.cluster", True, id="plain"),
        pytest.param("tfscale", "from strategies import extension", False, id="the extension"),
        pytest.param(
            "tfscale", "from strategies.extension import exchange", False, id="of the extension"
        ),
        pytest.param(
            "tfscale", "from strategies.extension import importlib", True, id="not in its table"
        ),
        pytest.param(
            "tfscale", "def f():\n    import strategies.progress", True, id="inside a function"
        ),
        pytest.param("tfscale", "strategies.cluster.Cluster()", True, id="attribute"),
        pytest.param("tfscale", "TABLE = {'x': 'strategies.progress'}", True, id="lazy table"),
        pytest.param(
            "tfscale", "TABLE = {'x': 'strategies.extension'}", False, id="lazy table, public"
        ),
        pytest.param("tfscale", "import_module('strategies.progress')", True, id="import_module"),
        pytest.param("tfscale", "from tfscale.data.batches import Cut", False, id="own floor"),
        pytest.param(
            "recipes", "from strategies.extension import exchange", True, id="a recipe, extension"
        ),
        pytest.param("recipes", "from strategies import extension", True, id="the same, by name"),
        pytest.param("recipes", "strategies.is_chief(None)", False, id="a recipe, public name"),
        pytest.param("recipes", "from tfscale.data import Pipeline", False, id="a subpackage"),
        pytest.param("recipes", "from tfscale.data import tf", True, id="not in its `__all__`"),
        pytest.param("recipes", "from tfscale.data.pipeline import Pipeline", True, id="deeper"),
        pytest.param("recipes", "import tfscale.metrics", False, id="a public module"),
        pytest.param("recipes", "from recipes.images import sets", False, id="a recipe's own"),
    ],
)
def test_each_way_past_the_public_line_is_seen(floor: str, source: str, is_deep: bool) -> None:
    assert bool(deep_imports(ast.parse(source), floor)) is is_deep


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


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for folder in (*FLOORS, "tests")
        for path in source_files(folder)
    }
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def modules() -> dict[str, Path]:
    """The source files by module name; a package's own file is its module `__init__`."""
    paths = [path for floor in FLOORS for path in source_files(floor)]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


def imports_of(tree: ast.AST, names: Collection[str]) -> set[str]:
    """The modules among `names` that are imported, also inside of functions."""

    def module_of(*candidates: str) -> set[str]:
        modules = (name for each in candidates for name in (each, f"{each}.__init__"))
        return {next((name for name in modules if name in names), "")}

    found: set[str] = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= module_of(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                found |= module_of(f"{node.module}.{alias.name}", node.module)
    return found - {""}


def edges_between_neighbours(imports: dict[str, set[str]]) -> dict[str, dict[str, set[str]]]:
    """For each package: which of its modules and sub-packages import which of the others."""
    edges: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for importer, imported in imports.items():
        for module in imported:
            ours, theirs = importer.split("."), module.split(".")
            common = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), 0
            )
            if common:
                edges[".".join(ours[:common])][ours[common]].add(theirs[common])
    return edges


def circle(edges: dict[str, set[str]]) -> tuple[str, ...]:
    """Modules and packages that import each other; empty if there are none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return ()


@functools.cache
def house() -> dict[str, dict[str, set[str]]]:
    found = modules()
    trees = {name: ast.parse(path.read_text("utf-8")) for name, path in found.items()}
    return edges_between_neighbours({name: imports_of(t, found) for name, t in trees.items()})


@pytest.mark.parametrize("package", sorted(house()))
def test_no_modules_or_packages_of_one_folder_import_in_a_circle(package: str) -> None:
    assert circle(house()[package]) == ()


def test_rooms_of_keras_support_import_only_from_those_before_them() -> None:
    edges = house()[KERAS_SUPPORT]
    assert {*edges, *(room for imported in edges.values() for room in imported)} == {*ROOMS}
    upward = {
        f"{room} imports {other}"
        for room, imported in edges.items()
        for other in imported
        if ROOMS.index(other) > ROOMS.index(room)
    }
    assert upward == set()


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        pytest.param({"p.a": {"p.b"}, "p.b": {"p.c"}}, (), id="a chain"),
        pytest.param({"p.a": {"p.b"}, "p.b": {"p.a"}}, {"a", "b"}, id="two modules"),
        pytest.param({"p.a.x": {"p.b.x"}, "p.b.y": {"p.a.y"}}, {"a", "b"}, id="two packages"),
        pytest.param({"p.a.x": {"p.b"}, "p.c": {"p.a.y"}}, (), id="a package between modules"),
        pytest.param({"p.__init__": {"p.a"}, "p.a": {"p.__init__"}}, {"__init__", "a"}, id="front"),
    ],
)
def test_a_circle_of_imports_is_seen(imports: dict[str, set[str]], expected: set[str]) -> None:
    found = circle(edges_between_neighbours(imports)["p"])
    assert set(found) == set(expected)


def test_an_import_inside_of_a_function_counts() -> None:
    tree = ast.parse("def f():\n    from p.b import g, h\n    from p import c\n    import p.d")
    names = {"p.__init__", "p.b.__init__", "p.b.g", "p.c", "p.d"}
    assert imports_of(tree, names) == {"p.b.g", "p.b.__init__", "p.c", "p.d"}


def test_the_package_names_its_rooms_in_their_order() -> None:
    text = ast.get_docstring(ast.parse(modules()[f"{KERAS_SUPPORT}.__init__"].read_text("utf-8")))
    assert text is not None
    assert tuple(re.findall(r"^    ([a-z_]+) {2,}", text, re.MULTILINE)) == ROOMS[:-1]


def test_patches_are_made_in_one_table_but_for_one_that_preflight_takes_back() -> None:
    makers = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Patch"
    }
    assert makers == {f"{KERAS_SUPPORT}.patches", "tfscale.preflight.findings"}


def test_processes_are_started_without_python_code_between_fork_and_exec() -> None:
    """See `tests.programs.prepared`; the output of a pod is copied by a program without gRPC."""
    with_code = {
        path.relative_to(ROOT).as_posix()
        for folder in (*FLOORS, "tests")
        for path in source_files(folder)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "preexec_fn"
    }
    assert with_code == {"tfscale/launch/engines/kubernetes/pod_output.py"}
