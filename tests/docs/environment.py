"""The wheel, built from this checkout and installed into a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import ROOT

PACKAGES = ("strategies", "tfscale", "recipes")
METADATA = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
_DEADLINE = 900.0


def fresh_environment(folder: Path, extras: str = "cpu,data,recipes,sweep") -> Path:
    """Makes an environment with the wheel of this checkout; returns the folder of its programs.

    Args:
        folder: Where it is made; must not exist.
        extras: Extras of the wheel to install, with commas.

    Raises:
        RuntimeError: If the wheel cannot be built or installed.
    """
    folder.mkdir(parents=True)
    wheel = _built(folder)
    home = folder / "environment"
    _done([sys.executable, "-m", "venv", str(home)], folder)
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
    _done([*pip, "--disable-pip-version-check", f"{wheel}[{extras}]"], folder)
    return programs


def _built(folder: Path) -> Path:
    source = folder / "source"  # a copy: a leftover build/ folder would hide a missing file
    source.mkdir()
    for name in METADATA:
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    _done([*build, "."], source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _done(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DEADLINE)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
