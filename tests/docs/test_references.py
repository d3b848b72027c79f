"""What pages name exists: files, modules that are run, make targets."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, pages

PAGES = [*pages(), ROOT / "CONTRIBUTING.md"]

_FILE = re.compile(r"`((?:strategies|tfscale|recipes|tests|docs)/[\w/.]+)`")
_MODULE = re.compile(r"python -m ((?:tfscale|recipes|tests)(?:\.\w+)*)")
_TARGET = re.compile(r"(?:`|^|^    )make ([a-z][a-z-]*)", re.MULTILINE)


def is_file(name: str) -> bool:
    return (ROOT / name).exists()


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return (path / "__main__.py").is_file() or path.with_suffix(".py").is_file()


@functools.cache
def is_target(name: str) -> bool:
    return (
        subprocess.run(["make", "--dry-run", name], cwd=ROOT, capture_output=True).returncode == 0
    )


@pytest.mark.parametrize(
    ("named", "exists"),
    [
        pytest.param(_FILE, is_file, id="files"),
        pytest.param(_MODULE, is_module, id="modules"),
        pytest.param(_TARGET, is_target, id="make targets"),
    ],
)
def test_what_pages_name_exists(named: re.Pattern[str], exists: Callable[[str], bool]) -> None:
    found = {
        f"{page.relative_to(ROOT)}: {name}": exists(name)
        for page in PAGES
        for name in named.findall(Path(page).read_text("utf-8"))
    }
    assert found, "the pattern finds nothing"
    assert [where for where, is_there in found.items() if not is_there] == []
