"""What GitHub and pre-commit read names commands, packages and versions that exist."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.programs import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
MATRIX = re.findall(r"^MATRIX \?= (.*)$", MAKEFILE, re.MULTILINE)[0].split()
UNRELEASED = re.findall(r"^UNRELEASED = (.*)$", MAKEFILE, re.MULTILINE)[0].split()


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def targets() -> set[str]:
    phony = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    plain = {name for line in phony for name in line.split() if "$" not in name}
    return plain | {f"matrix-{pair}" for pair in (*MATRIX, *UNRELEASED)}


def metadata() -> configparser.SectionProxy:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup["metadata"]


def commands(job: dict[str, Any]) -> list[str]:
    """The lines that a job runs, with the values of its matrix in the place of their names."""
    (lines,) = [[step["run"] for step in job["steps"] if "run" in step]]
    values = job.get("strategy", {}).get("matrix", {})
    for name, options in values.items():
        lines = [line.replace(f"${{{{ matrix.{name} }}}}", x) for line in lines for x in options]
    return lines


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_runs_what_exists(path: Path) -> None:
    jobs = parsed(path)["jobs"]
    lines = [line for job in jobs.values() for line in commands(job)]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "make":
            assert set(arguments) <= targets()
        else:
            assert os.access(ROOT / program, os.X_OK)


def test_ci_makes_what_exists() -> None:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    made = re.findall(r"\bmake ([a-z-]+)", "\n".join(x for x in lines if not x.startswith("#")))
    assert {"lint", "docs", "test"} <= set(made) <= targets()


def test_weekly_matrix_is_that_of_the_makefile() -> None:
    jobs = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert commands(jobs["matrix"]) == [f"make matrix-{pair}" for pair in MATRIX]


def test_each_week_runs_unreleased_versions_too_without_failing_for_them() -> None:
    jobs = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert commands(jobs["unreleased"]) == [f"make matrix-{lane}" for lane in UNRELEASED]
    assert jobs["unreleased"]["if"] == jobs["matrix"]["if"]
    assert jobs["unreleased"]["continue-on-error"] is True
    assert "continue-on-error" not in jobs["matrix"]


def planned(lane: str, folder: Path) -> str:
    """What `make matrix-LANE` would run in `folder`, where its environment was made before."""
    environment = folder / ".venv-matrix" / lane
    environment.mkdir(parents=True)
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in (".made", ".installed"):
        (environment / name).touch()
    command = ["make", "--dry-run", f"matrix-{lane}"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_the_newest_keras_is_installed_for_each_run_of_its_lane(tmp_path: Path) -> None:
    """keras-nightly installs into the folder of keras, which tfscale requires."""
    plan = planned("nightly", tmp_path)
    order = [
        plan.index('--editable ".[cpu,recipes,test]"'),
        plan.rindex("pip uninstall --quiet --quiet --yes keras keras-nightly"),
        plan.index("--no-deps --pre keras-nightly"),
        plan.index("keras.__version__"),
        plan.index("-m pytest"),
    ]
    assert order == sorted(order)


def test_released_versions_are_installed_once(tmp_path: Path) -> None:
    plan = planned(MATRIX[0], tmp_path)
    assert "pip install" not in plan
    assert "-m pytest" in plan


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_form_has_what_github_asks_for(path: Path) -> None:
    form = parsed(path)
    if path.name == "config.yml":
        assert all({"name", "url", "about"} == set(link) for link in form["contact_links"])
        return
    assert {"name", "description", "body"} <= set(form)
    names = [field["id"] for field in form["body"]]
    assert len(names) == len(set(names)) > 0
    assert all("label" in field["attributes"] for field in form["body"])


def test_hooks_run_modules_of_the_test_environment() -> None:
    config = parsed(ROOT / ".pre-commit-config.yaml")
    (local,) = [repository for repository in config["repos"] if repository["repo"] == "local"]
    for hook in local["hooks"]:
        python, dash_m, module, *_ = shlex.split(hook["entry"])
        assert (python, dash_m) == (".venv/bin/python", "-m")
        assert importlib.util.find_spec(module)


def test_citation_names_the_released_version_and_the_repository() -> None:
    citation = parsed(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == metadata()["version"]
    assert citation["repository-code"] == metadata()["url"]
    assert citation["license"] == metadata()["license"]


def test_every_address_of_the_project_is_in_its_repository() -> None:
    addresses = re.findall(r"https://\S+", metadata()["project_urls"])
    assert len(addresses) == len(metadata()["project_urls"].strip().splitlines())
    assert all(address.startswith(metadata()["url"]) for address in addresses)


def test_what_make_quick_runs_exists() -> None:
    """The longest line that it would run names each file, and the example of each case."""
    planned = subprocess.run(
        ["make", "--dry-run", "quick"], cwd=ROOT, capture_output=True, text=True, timeout=60
    ).stdout
    files = re.findall(r"tests/unit/\S+", planned)
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name.partition("::")[0]).exists()] == []
    cases = re.findall(r"test_examples.py::\S+\[(\w+)\]", planned)
    assert all((ROOT / "recipes" / "examples" / f"{name}.py").exists() for name in cases)
