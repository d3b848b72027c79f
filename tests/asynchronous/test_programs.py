"""The programs start; what they measure takes too long for a test: `make asynchronous`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import run_program

PROGRAMS = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
PROGRAMS.remove("test_programs")


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_explains_itself(name: str) -> None:
    assert "usage:" in run_program("-m", f"tests.asynchronous.{name}", "--help", timeout=120)
