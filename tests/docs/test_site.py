"""The site: built strictly, and complete without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.site import problems


def built(folder: Path) -> Path:
    """Builds the site into a folder, strictly."""
    pytest.importorskip("mkdocs", reason="`make docs` installs mkdocs and runs this")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_strictly_and_loads_nothing_from_another_host(tmp_path: Path) -> None:
    assert list(problems(built(tmp_path))) == []


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="//example.org/a.css">',
        '<img src="http://example.org/a.png">',
        '<pre class="mermaid"></pre>',
    ],
)
def test_what_comes_from_another_host_is_found(tmp_path: Path, tag: str) -> None:
    (tmp_path / "index.html").write_text(f"<html>{tag}</html>", "utf-8")
    assert next(problems(tmp_path)).startswith("index.html loads ")


def test_a_link_to_follow_is_nothing_that_is_loaded(tmp_path: Path) -> None:
    text = '<a href="https://example.org">a</a><link rel="canonical" href="https://example.org">'
    (tmp_path / "index.html").write_text(text, "utf-8")
    assert not [problem for problem in problems(tmp_path) if "loads" in problem]
