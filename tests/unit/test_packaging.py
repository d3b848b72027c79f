"""The wheel as a user installs it: into a folder, imported from another directory."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("strategies", "tfscale", "recipes")
DEADLINE_S = 180


def run_python(
    arguments: Sequence[str], *, cwd: Path, import_from: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if import_from is not None:
        environment["PYTHONPATH"] = str(import_from)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def files_on_disk(package: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a leftover build/ folder would hide a file left out."""
    source = tmp_path_factory.mktemp("a checkout")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    result = run_python(
        ["-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."], cwd=source
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nothing but what the wheel installs."""
    target = tmp_path_factory.mktemp("installed")
    pip = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    result = run_python([*pip, str(wheel)], cwd=target)
    assert result.returncode == 0, result.stdout + result.stderr
    return target


def test_setup_cfg_names_every_package_folder_and_no_other() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = setup["options"]["packages"].split()
    folders = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert sorted(named) == sorted(folders)
    assert [
        name for name in named if not (ROOT / name.replace(".", "/") / "__init__.py").is_file()
    ] == []


def test_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == set.union(*(files_on_disk(package) for package in PACKAGES))


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_says_that_each_package_is_typed(installed: Path, package: str) -> None:
    assert (installed / package / "py.typed").is_file()


def test_wheel_carries_the_digits(installed: Path) -> None:
    held = {path.name for path in (installed / "recipes" / "digits").iterdir()}
    assert {"digits.csv.gz", "test_indices.txt", "README.md"} <= held


@pytest.mark.parametrize("package", PACKAGES)
def test_installed_package_is_imported_from_another_directory(
    installed: Path, tmp_path: Path, package: str
) -> None:
    program = f"import {package}; print({package}.__file__)"
    result = run_python(["-c", program], cwd=tmp_path, import_from=installed)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == installed / package / "__init__.py"


def test_installed_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    result = run_python(["-m", "tfscale", "--help"], cwd=tmp_path, import_from=installed)
    assert result.returncode == 0, result.stderr
    assert "usage: tfscale" in result.stdout
    assert "launch" in result.stdout


def shadow(folder: Path, name: str) -> Path:
    """Makes a package of the user's own, which would say so if anybody imported it."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise RuntimeError('the user code ran')\n")
    return folder / name


@pytest.mark.parametrize("name", ["strategies", "recipes"])
def test_a_folder_of_the_users_own_that_hides_ours_is_named(
    installed: Path, tmp_path: Path, name: str
) -> None:
    theirs = shadow(tmp_path, name)
    result = run_python(["-c", "import tfscale"], cwd=tmp_path, import_from=installed)
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith(f"ImportError: `{name}` must be the package installed with tfscale.")
    assert f"Received: {name}={str(theirs)!r}" in message
    assert "Rename it" in message


def test_a_plain_module_of_the_users_own_that_hides_ours_is_named(
    installed: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "strategies.py"
    theirs.write_text("raise RuntimeError('the user code ran')\n")
    result = run_python(["-c", "import tfscale"], cwd=tmp_path, import_from=installed)
    assert f"Received: strategies={str(theirs)!r}" in result.stderr.strip().splitlines()[-1]


def test_a_hiding_folder_that_was_imported_first_is_named(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "__init__.py").touch()
    result = run_python(["-c", "import strategies, tfscale"], cwd=tmp_path, import_from=installed)
    assert "ImportError: `strategies` must be" in result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["strategies", "recipes"])
def test_a_folder_without_init_hides_nothing(installed: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").touch()
    program = f"import tfscale, {name}; print({name}.__file__)"
    result = run_python(["-c", program], cwd=tmp_path, import_from=installed)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(installed)


@pytest.mark.parametrize("name", ["strategies", "recipes"])
def test_safe_path_cures_a_hiding_folder(installed: Path, tmp_path: Path, name: str) -> None:
    shadow(tmp_path, name)
    result = run_python(
        ["-P", "-c", f"import tfscale, {name}"], cwd=tmp_path, import_from=installed
    )
    assert result.returncode == 0, result.stderr


def test_a_package_that_is_missing_is_named(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed / "tfscale", tmp_path / "tfscale")
    # -S: another copy of the packages in this interpreter's site-packages must not be found.
    result = run_python(["-S", "-c", "import tfscale"], cwd=tmp_path)
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: `strategies` must be installed together with tfscale.")
