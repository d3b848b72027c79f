"""The compiler's environment: an error if it is missing, created completely or not at all."""

from __future__ import annotations

import configparser
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tfscale.preflight.ahead_of_time.environment import (
    REQUIREMENTS,
    NoEnvironment,
    default_environment,
    environment_python,
    make_environment,
)

ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package of one line, so that nothing is downloaded."""
    path = tmp_path / "one_line-1.0-py3-none-any.whl"
    info = "one_line-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one_line.py", "SAID = 'installed'\n")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: one-line\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_without_an_environment_the_cure_and_its_size_are_told(tmp_path: Path) -> None:
    match = r"needs an environment in .*none.*--make_environment.*225 MB of wheels"
    with pytest.raises(NoEnvironment, match=match):
        environment_python(tmp_path / "none")


def test_an_environment_of_other_versions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "made.txt").write_text("jax==0.1", "utf-8")
    with pytest.raises(NoEnvironment, match=r"must have jax==.* Received: jax==0\.1\. Remove"):
        environment_python(tmp_path)


def test_an_environment_is_made_with_a_python_of_its_own(tmp_path: Path, wheel: Path) -> None:
    folder = tmp_path / "made"
    said: list[str] = []
    make_environment(folder, said.append, requirements=(str(wheel),))
    printed = subprocess.run(
        [folder / "bin" / "python", "-I", "-c", "import one_line; print(one_line.SAID)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert printed.stdout == "installed\n"
    assert "225 MB" in said[0]
    assert "is ready" in said[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", wheel.name]


def test_one_that_cannot_be_made_in_time_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(NoEnvironment, match="took too long"):
        make_environment(tmp_path / "late", lambda _: None, timeout_seconds=0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_a_name_that_could_be_guessed_is_left_alone(tmp_path: Path) -> None:
    guessed = tmp_path / f"late.making-{os.getpid()}"
    guessed.mkdir()
    (guessed / "mine").write_text("mine")
    with pytest.raises(NoEnvironment, match="took too long"):
        make_environment(tmp_path / "late", lambda _: None, timeout_seconds=0.05)
    assert [*tmp_path.iterdir()] == [guessed]
    assert (guessed / "mine").read_text() == "mine"


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", "utf-8")
    with pytest.raises(NoEnvironment, match="`--environment` must be a folder that does not exist"):
        make_environment(tmp_path, lambda _: None)
    assert (tmp_path / "thesis.txt").read_text("utf-8") == "mine"


def test_it_stands_in_the_cache_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_environment() == Path("/somewhere/tfscale/preflight/jax-0.10.2-libtpu-0.0.52")


def test_its_versions_are_those_of_the_extra() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extra = setup["options.extras_require"]["tpu-preflight"]
    assert tuple(extra.split()) == REQUIREMENTS
