from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import tfscale
from tests.programs import forked
from tests.stock_keras import DISTRIBUTION
from tfscale.doctor import examination

ROOT = Path(tfscale.__file__).parents[1]
BROKEN_CLUSTER = '{"cluster": {"worker": ["a:1", "b:1"]}}'


def child(*arguments: str, **added: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("TF_CONFIG", "KERAS_BACKEND")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**inherited, "COLUMNS": "80", **added},
        capture_output=True,
        text=True,
        timeout=120,
    )


# Several looks in one process, for importing TensorFlow takes longer than all of them. Each prints
# a line of JSON: its status and what it printed.
LOOKS = """
import contextlib, io, json, os
from tfscale.__main__ import main

def look(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = main(["doctor", *arguments])
    print(json.dumps([status, printed.getvalue()]))

look()
look("--json")
os.environ["TF_CONFIG"] = json.dumps(
    {"cluster": {"worker": ["a:20001", "b:20001"]}, "task": {"type": "worker", "index": 1}})
look("--json")
os.environ["TF_CONFIG"] = %r
look("--json")
del os.environ["TF_CONFIG"]

import keras
owner = next(each for each in keras.Model.__mro__ if "make_train_function" in vars(each))
original = owner.make_train_function
def make_train_function(self, force=False, again=False):
    return original(self, force=force or again)
owner.make_train_function = make_train_function
look("--json")
look()
del owner.make_train_function
look("--json")
owner.make_train_function = original
owner.make_predict_function = lambda self, force=False: None
look("--json")
look()
""" % (BROKEN_CLUSTER,)  # noqa: UP031  (the code holds braces)


CHANGED_PRIVATE_SYMBOL = """
import dataclasses, json
from strategies.keras_support import installation
from tfscale.doctor.examination import examine
from tfscale.preflight import private_symbols

def with_changed(symbols, name):
    return [dataclasses.replace(each, accepted=()) if each.target.endswith(name) else each
            for each in symbols]

installation.KERAS_SYMBOLS = with_changed(installation.KERAS_SYMBOLS, "._async_train")
private_symbols.PREFLIGHT_SYMBOLS = with_changed(
    private_symbols.PREFLIGHT_SYMBOLS, ":get_registered_kernels_for_op")
print(json.dumps(examine()))
"""


@pytest.fixture(scope="module")
def looks() -> dict[str, tuple[int, str]]:
    done = child(*forked("-c", LOOKS))
    assert done.returncode == 0, done.stderr
    names = (
        "text",
        "json",
        "cluster",
        "broken cluster",
        "changed",
        "changed text",
        "gone",
        "predict",
        "predict text",
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (status, text) for name, (status, text) in zip(names, found, strict=True)}


def report(look: tuple[int, str]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(look[1])
    return parsed


def test_a_healthy_machine_has_status_0_and_no_problems(looks: dict[str, tuple[int, str]]) -> None:
    status, text = looks["text"]
    assert status == 0
    assert text.endswith("\nno problems\n")
    assert max(map(len, text.splitlines())) <= 80
    assert "tfscale doctor --json" in text


def test_json_holds_the_versions_and_devices_of_this_machine(
    looks: dict[str, tuple[int, str]],
) -> None:
    found = report(looks["json"])
    assert list(found) == [
        "versions",
        "devices",
        "cluster",
        "tested",
        "features",
        "fixes",
        "private_symbols",
        "host",
        "storage",
        "accelerators",
        "peers",
        "health",
        "examinations",
        "problems",
        "remarks",
        "findings",
    ]
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"][DISTRIBUTION] == metadata.version(DISTRIBUTION)
    assert found["tested"]["is_tested"]
    assert {each["state"] for each in found["features"]} == {"works"}
    assert found["devices"]["CPU"] == 1
    assert found["cluster"] is None


def test_json_tells_of_each_fix_what_it_stands_in_for_and_when_it_may_go(
    looks: dict[str, tuple[int, str]],
) -> None:
    fixes = {fix["row"]: fix for fix in report(looks["json"])["fixes"]}
    assert {"C1", "C4", "C5", "C6", "S1", "S4", "S6", "H1"} <= set(fixes)
    for fix in fixes.values():
        assert fix["state"] == "ready"
        assert fix["defect"]
        assert fix["remove_when"]
    assert "keras:Model.make_train_function" in fixes["C1"]["patches"]
    assert "https://github.com/keras-team/keras/issues/20585" in fixes["C1"]["threads"]


def test_json_lists_the_private_symbols_in_use(looks: dict[str, tuple[int, str]]) -> None:
    symbols = {each["symbol"]: each for each in report(looks["json"])["private_symbols"]}
    assert symbols["keras:Layer._flatten_layers"] == {
        "symbol": "keras:Layer._flatten_layers",
        "state": "recognised",
        "needed_by": "all strategies",
        "used_in": [
            "strategies.keras_support.gradients",
            "strategies.keras_support.model",
            "strategies.keras_support.state",
        ],
        "purpose": "all layers of a model, at any depth",
    }
    assert {each["state"] for each in symbols.values()} == {"recognised"}


def test_a_changed_private_symbol_is_a_problem_of_what_uses_it() -> None:
    done = child(*forked("-c", CHANGED_PRIVATE_SYMBOL))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    first, second = found["problems"]
    assert re.match(r"several workers: refused with Keras \S+ and TensorFlow \S+, in which ", first)
    assert "keras.callbacks:CallbackList._async_train changed. Install" in first
    assert second.startswith("reports: may fail or be incomplete with Keras ")
    assert "tensorflow.python.framework.kernels:get_registered_kernels_for_op changed" in second
    states = {each["feature"]: each["state"] for each in found["features"]}
    assert [name for name, state in states.items() if state == "refused"] == ["several workers"]


def test_the_text_names_every_row(looks: dict[str, tuple[int, str]]) -> None:
    rows = [fix["row"] for fix in report(looks["json"])["fixes"]]
    first_words = [line.split()[0] for line in looks["text"][1].splitlines() if line.strip()]
    assert [word for word in first_words if word in rows] == rows


def test_a_cluster_is_described(looks: dict[str, tuple[int, str]]) -> None:
    assert looks["cluster"][0] == 0
    assert report(looks["cluster"])["cluster"] == {
        "source": "TF_CONFIG",
        "jobs": {"worker": ["a:20001", "b:20001"]},
        "task": "worker 1",
    }
    assert "The name a does not resolve on this host" in " ".join(
        report(looks["cluster"])["remarks"]
    )


def test_a_broken_cluster_is_a_problem(looks: dict[str, tuple[int, str]]) -> None:
    status, _ = looks["broken cluster"]
    (problem,) = report(looks["broken cluster"])["problems"]
    assert status == 1
    assert "task" in problem


@pytest.mark.parametrize("name", ["changed", "gone"])
def test_a_changed_symbol_refuses_the_fixes_that_stand_in_for_it_and_no_others(
    looks: dict[str, tuple[int, str]], name: str
) -> None:
    symbol = "keras:Model.make_train_function"
    found = report(looks[name])
    assert looks[name][0] == 1
    assert len(found["problems"]) == 1
    assert symbol in found["problems"][0]
    assert "pip install" in found["problems"][0]
    for fix in found["fixes"]:
        assert fix["state"] == ("refused" if symbol in fix["patches"] else "ready")
    assert {fix["state"] for fix in found["fixes"]} == {"refused", "ready"}


def test_the_text_shows_what_is_refused(looks: dict[str, tuple[int, str]]) -> None:
    status, text = looks["changed text"]
    assert status == 1
    assert "\n  C1   refused  fit and evaluate" in text
    assert "\n  S1   ready    " in text
    assert "\nproblems\n  - all strategies: refused with Keras" in text


def test_a_changed_symbol_of_no_fix_is_a_problem_too(looks: dict[str, tuple[int, str]]) -> None:
    # `predict` has no defect of its own, but its patch is needed.
    status, text = looks["predict text"]
    assert (looks["predict"][0], status) == (1, 1)
    found = report(looks["predict"])
    assert "make_predict_function" in found["problems"][0]
    refused = [each["feature"] for each in found["features"] if each["state"] == "refused"]
    assert refused == ["predict"]
    assert {fix["state"] for fix in found["fixes"]} == {"ready"}
    assert re.search(r"\n  predict +refused: keras:Model\.make_predict_function changed\n", text)
    assert re.search(rf"\n  works +{len(found['features']) - 1} of {len(found['features'])} ", text)


@pytest.mark.parametrize(
    "backend",
    ["jax", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("numpy", "nosuch"))],
)
def test_another_backend_is_a_problem_with_its_cure(backend: str) -> None:
    # Whether the backend's own library is installed or not: the cure is the same.
    done = child("-m", "tfscale", "doctor", "--json", KERAS_BACKEND=backend)
    assert done.returncode == 1, done.stderr
    (problem,) = json.loads(done.stdout)["problems"]
    assert f"needs the backend tensorflow; KERAS_BACKEND={backend} sets another one" in problem


HIDE_TENSORFLOW = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
from tfscale.__main__ import main
sys.exit(main(["doctor", *sys.argv[1:]]))
"""


def test_a_missing_tensorflow_is_one_problem_with_its_cure() -> None:
    done = child("-c", HIDE_TENSORFLOW)
    assert (done.returncode, done.stderr) == (1, "")
    end = done.stdout.partition("\nproblems\n")[2]
    assert end.startswith('  - TensorFlow is not installed. Install it: pip install "tfscale[cpu]"')
    assert end.count("\n  - ") == 0


def test_help_teaches() -> None:
    done = child("-m", "tfscale", "doctor", "--help")
    assert done.returncode == 0
    for words in ("usage: tfscale doctor", "--json", "ready", "refused", "examples:", "status:"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only=disk"], "must be some of releases, wheels, cluster,"),
        (["--dirs=/tmp,"], "must be folders with commas between them. Received: '/tmp,'."),
        (["--min_disk_mb_per_s=5"], "--min_disk_mb_per_s needs --health_check. Add it."),
        (["--health_check", "--max_all_reduce_ms=0"], "Received: '0'."),
        (["--peers_seconds=-1"], "Received: '-1'."),
    ],
)
def test_wrong_flags_are_refused_with_the_cure(flags: list[str], message: str) -> None:
    done = child("-m", "tfscale", "doctor", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_peers_without_a_cluster_are_a_problem_with_its_cure() -> None:
    done = child("-m", "tfscale", "doctor", "--only=cluster", "--peers", "--json")
    assert done.returncode == 1, done.stderr
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem.startswith("No cluster was found in the environment of this process")
    assert "tfscale launch, srun, mpirun" in problem


def test_examinations_without_releases_do_not_import_tensorflow() -> None:
    code = (
        "import sys\nfrom tfscale.__main__ import main\n"
        "main(['doctor', '--only=wheels,cluster,host,storage,accelerators'])\n"
        "print('heavy:', sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert child("-c", code).stdout.splitlines()[-1] == "heavy: []"


def test_releases_are_not_called_tested_if_tfscale_says_nothing_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: None)
    assert examination.examine()["tested"] == {}
