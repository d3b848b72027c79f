"""Counting in which releases a symbol changed, on small sources that the tests write."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Collection
from pathlib import Path

import pytest

from strategies.keras_support.patches import PATCHES
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_tensorflow import TENSORFLOW_SYMBOLS
from tests.programs import ROOT
from tests.upstream_history.changes import History, comparison, history
from tests.upstream_history.places import OTHER_PLACES
from tests.upstream_history.release import Release
from tests.upstream_history.table import short, table, updated
from tests.upstream_history.wheels import KERAS, wheels

TRAINER = "keras/src/backend/tensorflow/trainer.py"
FIT = "class TensorFlowTrainer:\n    def fit(self, x):\n        return x\n"


def releases(*sources: dict[str, str]) -> list[Release]:
    """Releases 3.0, 3.1, ... with the given files."""
    return [Release(f"3.{minor}", files.__getitem__) for minor, files in enumerate(sources)]


def fits(*sources: str) -> History:
    """The history of `fit` in releases with these sources of the trainer."""
    target = "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.fit"
    return history(target, releases(*({TRAINER: source} for source in sources)))


@pytest.mark.parametrize(
    ("after", "changed", "signature_changed"),
    [
        pytest.param(FIT, (), (), id="the same"),
        pytest.param(FIT + "\n\ndef other():\n    pass\n", (), (), id="a change elsewhere"),
        pytest.param(FIT.replace("return x", '"""Fits."""\n        return x'), (), (), id="docs"),
        pytest.param(FIT.replace("return x", "return  x  # done"), (), (), id="layout"),
        pytest.param(FIT.replace("return x", "return -x"), ("3.1",), (), id="the body"),
        pytest.param(FIT.replace("self, x", "self, x=0"), ("3.1",), ("3.1",), id="an argument"),
        pytest.param(FIT.replace("    def", "    @f\n    def"), ("3.1",), ("3.1",), id="decorator"),
    ],
)
def test_what_counts_as_a_change(
    after: str, changed: tuple[str, ...], signature_changed: tuple[str, ...]
) -> None:
    found = fits(FIT, after)
    assert (found.changed, found.signature_changed) == (changed, signature_changed)
    assert (found.since, found.missing) == ("3.0", ())


def test_each_release_is_compared_with_the_one_before() -> None:
    other = FIT.replace("return x", "return -x")
    assert fits(FIT, other, other, FIT, FIT).changed == ("3.1", "3.3")


def test_the_first_release_with_a_symbol_is_no_change() -> None:
    found = fits("", FIT, FIT.replace("return x", "return -x"))
    assert (found.since, found.changed, found.missing) == ("3.1", ("3.2",), ())


def test_a_symbol_that_is_gone_for_a_release_is_compared_with_its_last_source() -> None:
    found = fits(FIT, "", FIT)
    assert (found.changed, found.missing) == ((), ("3.1",))


def test_a_symbol_that_no_release_has_has_no_history() -> None:
    assert fits("", "") == History(fits("").target, "", (), (), ())


MODEL = """
from keras.src import backend
from keras.src.trainers import trainer as base_trainer

if backend.backend() == "jax":
    from keras.src.backend.jax.trainer import JAXTrainer as Trainer
elif backend.backend() == "tensorflow":
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer as Trainer

class Model(Trainer, base_trainer.Trainer):
    def call(self):
        pass
"""
BASE = "class Trainer:\n    def fit(self):\n        raise\n\n    def compile(self):\n        pass\n"


def layout(public: dict[str, str], base: str = BASE) -> dict[str, str]:
    """A release in which `keras.Model` inherits `fit` from one base and `compile` from another."""
    return {
        "keras/src/models/model.py": MODEL,
        "keras/src/backend/jax/trainer.py": "class JAXTrainer:\n    def fit(self): return 'jax'\n",
        TRAINER: FIT,
        "keras/src/trainers/trainer.py": base,
        **public,
    }


@pytest.mark.parametrize(
    "public",
    [
        pytest.param(
            {"keras/__init__.py": "from keras.src.models.model import Model as Model"},
            id="a plain import",
        ),
        pytest.param(
            {
                "keras/__init__.py": "from keras.api import *",
                "keras/api/__init__.py": "from keras.src.models.model import Model",
            },
            id="through a star",
        ),
    ],
)
def test_a_method_of_a_public_class_is_followed_to_the_class_that_defines_it(
    public: dict[str, str],
) -> None:
    (release,) = releases(layout(public))
    (plain,) = releases({TRAINER: FIT, "keras/src/trainers/trainer.py": BASE})
    assert release.fingerprint("keras:Model.fit") == plain.fingerprint(
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.fit"
    )
    assert release.fingerprint("keras:Model.compile") == plain.fingerprint(
        "keras.src.trainers.trainer:Trainer.compile"
    )
    assert release.fingerprint("keras:Model.gone") is None


def test_a_change_in_a_base_class_changes_the_method_of_the_public_class() -> None:
    public = {"keras/__init__.py": "from keras.src.models.model import Model as Model"}
    versions = releases(layout(public), layout(public, BASE.replace("pass", "return 1")))
    assert history("keras:Model.compile", versions).changed == ("3.1",)
    assert history("keras:Model.fit", versions).changed == ()


def test_a_method_that_calls_the_one_it_overrides_changes_with_it() -> None:
    files = layout({"keras/__init__.py": "from keras.src.models.model import Model as Model"})
    files[TRAINER] = "class TensorFlowTrainer:\n    def compile(self): super().compile()\n"
    other = {**files, "keras/src/trainers/trainer.py": BASE.replace("pass", "return 1")}
    assert history("keras:Model.compile", releases(files, other)).changed == ("3.1",)


def test_a_base_class_that_has_another_name_for_each_backend_is_tensorflows() -> None:
    source = """
if backend == "jax":
    from keras.src.backend.jax.optimizer import JaxOptimizer
    Backend = JaxOptimizer
else:
    from keras.src.backend.tensorflow.optimizer import TFOptimizer
    Backend = TFOptimizer

class Optimizer(Backend[int]):
    pass
"""
    files = {
        "keras/__init__.py": source,
        "keras/src/backend/jax/optimizer.py": "class JaxOptimizer:\n    a = 1\n    b = 2\n",
        "keras/src/backend/tensorflow/optimizer.py": "class TFOptimizer:\n    a = 3\n",
    }
    (release,) = releases(files)
    assert release.source("keras:Optimizer.a") == "a = 3"
    assert release.fingerprint("keras:Optimizer.b") is None


def test_a_public_module_is_found_where_3_2_to_3_9_have_it() -> None:
    files = {
        "keras/api/callbacks/__init__.py": "from keras.src.callbacks.csv import CSVLogger",
        "keras/src/callbacks/csv.py": "class CSVLogger:\n    def on_epoch_end(self): pass\n",
    }
    (release,) = releases(files)
    assert release.fingerprint("keras.callbacks:CSVLogger.on_epoch_end")


@pytest.mark.parametrize(
    ("place", "other"),
    [
        ("keras.src.core", "keras.src.ops.core"),
        ("keras.src.core:Variable", "keras.src.ops.core:Variable"),
        ("keras.src.core:Variable._value", "keras.src.ops.core:Variable._value"),
    ],
)
def test_what_moved_is_found_at_its_other_place(
    monkeypatch: pytest.MonkeyPatch, place: str, other: str
) -> None:
    source = "class Variable:\n    def _initialize(self, value):\n        self._value = value\n"
    versions = releases(
        {"keras/src/core.py": source},
        {"keras/src/ops/core.py": source},
        {"keras/src/ops/core.py": source.replace("= value", "= [value]")},
    )
    target = "keras.src.core:Variable._value"
    assert history(target, versions).missing == ("3.1", "3.2")
    monkeypatch.setitem(OTHER_PLACES, place, (other,))
    found = history(target, versions)
    assert (found.changed, found.missing) == (("3.2",), ())


def installed(file: str) -> bytes:
    """Reads a file of the installed Keras or TensorFlow."""
    package = importlib.util.find_spec(file.partition("/")[0].removesuffix(".py"))
    assert package is not None
    assert package.origin is not None
    try:
        return (Path(package.origin).parents[1] / file).read_bytes()
    except FileNotFoundError:
        raise KeyError(file) from None


def test_the_installed_sources_have_the_fingerprints_of_the_tables() -> None:
    release = Release("installed", installed)
    known: dict[str, Collection[str]] = {patch.target: patch.accepted for patch in PATCHES}
    known |= {symbol.target: symbol.accepted for symbol in (*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS)}
    assert {
        target: release.fingerprint(target)
        for target, accepted in known.items()
        if release.fingerprint(target) not in accepted
    } == {}


def test_a_comparison_shows_the_changed_lines_and_the_new_fingerprint() -> None:
    target = "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.fit"
    old, new = releases({TRAINER: FIT}, {TRAINER: FIT.replace("return x", "return -x")})
    lines = comparison(target, old, new).splitlines()
    assert lines[0] == (
        f"{target}  {old.fingerprint(target)} -> {new.fingerprint(target)}  {new.signature(target)}"
    )
    assert lines[1:3] == ["--- 3.0", "+++ 3.1"]
    assert lines[-2:] == ["-    return x", "+    return -x"]
    assert comparison(target, old, old) == ""


def test_a_comparison_of_an_attribute_shows_the_statements_that_set_it() -> None:
    files = {TRAINER: "class T:\n    def f(self):\n        self.a, self.b = 1, 2\n"}
    (old,), (new,) = releases(files), releases({TRAINER: files[TRAINER].replace("2", "3")})
    lines = comparison("keras.src.backend.tensorflow.trainer:T.b", old, new).splitlines()
    assert lines[-2:] == ["-self.a, self.b = (1, 2)", "+self.a, self.b = (1, 3)"]


def test_the_table_lists_what_changed_most_first() -> None:
    histories = [
        History("a:A.less", "3.0", ("3.2",), (), ("3.3",)),
        History("a:A.more", "3.1", ("3.2", "3.3"), ("3.3",), ()),
        History("a:A.never", "3.0", (), (), ()),
    ]
    uses = {"a:A.less": "used", "a:A.more": "replaced", "a:A.never": "used"}
    lines = table(histories, uses).splitlines()
    assert lines[2:] == [
        "| `A.more` | replaced | 2 | 3.2, **3.3** | 3.1 |",
        "| `A.less` | used | 1 | 3.2, missing in 3.3 | 3.0 |",
        "",
        "No changes: `A.never`.",
    ]


def test_the_page_has_every_symbol_of_keras_in_use() -> None:
    """After a change of the tables: make keras-history. TensorFlow's would download 2 GB."""
    page = (ROOT / "docs" / "concepts" / "keras_versions.md").read_text("utf-8")
    table_of_keras = page.partition("keras-history: begin")[2].partition("keras-history: end")[0]
    listed = set(re.findall(r"`([\w.]+)`", table_of_keras))
    targets = [symbol.target for symbol in KERAS_SYMBOLS] + [patch.target for patch in PATCHES]
    assert listed == {short(target) for target in targets if target.startswith("keras")}


def test_only_the_table_between_its_markers_is_replaced() -> None:
    begin = "<!-- keras-history: begin, written by python -m tests.upstream_history -->"
    end = "<!-- keras-history: end -->"
    text = updated(f"# Title\n{begin}\nold\n{end}\nafter\n", "keras-history", "keras 3.0.", "new")
    assert text == f"# Title\n{begin}\nkeras 3.0.\n\nnew\n{end}\nafter\n"


def made_wheel(folder: Path, name: str, version: str) -> None:
    """Writes the smallest wheel that pip accepts, with one source file."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(TRAINER, FIT)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip looks for wheels, and nowhere else."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    for version in ("3.0.0", "3.0.9", "3.1.0"):
        made_wheel(folder, "keras", version)
    return folder


def test_the_last_patch_of_each_minor_is_downloaded_and_the_newest_that_is_unreleased(
    registry: Path, tmp_path: Path
) -> None:
    for version in ("3.2.0.dev1", "3.2.0.dev2"):
        made_wheel(registry, "keras_nightly", version)
    found = list(wheels(KERAS, tmp_path / "cache"))
    versions = [(wheel.name, wheel.version) for wheel in found]
    assert versions == [("3.0", "3.0.9"), ("3.1", "3.1.0"), ("nightly", "3.2.0.dev2")]
    target = "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.fit"
    assert history(target, [wheel.release() for wheel in found]).missing == ()


def test_a_new_patch_is_downloaded_beside_an_older_one(registry: Path, tmp_path: Path) -> None:
    made_wheel(registry, "keras_nightly", "3.1.0.dev5")  # older than the newest release
    list(wheels(KERAS, tmp_path / "cache"))
    made_wheel(registry, "keras", "3.0.10")
    found = [(wheel.name, wheel.version) for wheel in wheels(KERAS, tmp_path / "cache")]
    assert found == [("3.0", "3.0.10"), ("3.1", "3.1.0")]


def test_without_a_registry_the_message_has_pips_reason(registry: Path, tmp_path: Path) -> None:
    for path in registry.iterdir():
        path.unlink()
    with pytest.raises(RuntimeError, match="No matching distribution found for keras"):
        list(wheels(KERAS, tmp_path / "cache"))
