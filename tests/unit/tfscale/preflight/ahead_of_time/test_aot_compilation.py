"""The compiler's process: its answer, its end, its deadline, and the cache; with small programs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from tfscale.preflight.ahead_of_time.compilation import ChipCompiler, CompilerFailed
from tfscale.preflight.ahead_of_time.program import Program
from tfscale.preflight.target import parse_target

STEP = Program(hlo=b"a step", fingerprint="f", num_replicas=4, rows=8, arguments=(), scopes={})

# Takes the location of the file that needs libtpu; speaks the same protocol.
ANSWERS = """\
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
settings = json.loads((folder / "request.json").read_text())
assert settings == {"topology": "v5e:2x2", "num_replicas": 4}
assert (folder / "program.hlo").read_bytes() == b"a step"
with open(pathlib.Path(__file__).with_name("runs"), "a") as runs:
    runs.write(".")
(folder / "optimized.txt").write_text("HloModule m")
sizes = dict(argument=1, output=2, alias=3, temp=4, generated_code=5)
versions = {"jax": "0", "libtpu": "0"}
(folder / "result.json").write_text(
    json.dumps({"kind": "compiled", "bytes": sizes, "versions": versions}))
"""


class Setting:
    """A compiler of a test's own, and where it leaves its answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "compiler.py"
        self.cache = folder / "cache"
        self.said: list[str] = []

    def compiler(
        self, text: str, *, timeout_seconds: float = 300.0, target: str = "v5e:2x2"
    ) -> ChipCompiler:
        self.program.write_text(text, "utf-8")
        return ChipCompiler(
            Path(sys.executable),
            parse_target(target),
            self.cache,
            timeout_seconds=timeout_seconds,
            say=self.said.append,
            compiler=self.program,
            every_seconds=0.2,
        )

    @property
    def runs(self) -> int:
        return len((self.folder / "runs").read_text("utf-8"))

    @property
    def left_over(self) -> list[str]:
        return [path.name for path in self.cache.glob("compiling-*")]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_an_answer_is_read_and_the_second_time_found(setting: Setting) -> None:
    compiler = setting.compiler(ANSWERS)
    first, second = compiler.compile(STEP), compiler.compile(STEP)
    assert first.sizes == {"argument": 1, "output": 2, "alias": 3, "temp": 4, "generated_code": 5}
    assert (first.kind, first.module, first.is_cached) == ("compiled", "HloModule m", False)
    assert second == dataclasses.replace(first, is_cached=True)
    assert setting.runs == 1
    assert setting.left_over == []


def test_another_step_compiler_or_chip_is_compiled_anew(setting: Setting) -> None:
    setting.compiler(ANSWERS).compile(STEP)
    setting.compiler(ANSWERS).compile(dataclasses.replace(STEP, fingerprint="another"))
    setting.compiler(f"{ANSWERS}# changed\n").compile(STEP)
    assert setting.runs == 3
    with pytest.raises(CompilerFailed, match="AssertionError"):  # it was settings, for v6e
        setting.compiler(ANSWERS, target="v6e:2x2").compile(STEP)


def test_what_does_not_fit_is_an_answer_too(setting: Setting) -> None:
    text = ANSWERS.replace('"compiled", "bytes": sizes', '"out_of_memory", "message": "Used 40.8G"')
    answer = setting.compiler(text).compile(STEP)
    assert (answer.kind, answer.message, answer.sizes) == ("out_of_memory", "Used 40.8G", {})


def test_a_compiler_that_dies_is_told_with_its_exit_reason(setting: Setting) -> None:
    text = "import os\nprint('libtpu is upset', flush=True)\nos.abort()\n"
    match = r"for v5e:2x2 was killed by signal 6\. Last output: libtpu is upset"
    with pytest.raises(CompilerFailed, match=match):
        setting.compiler(text).compile(STEP)
    assert setting.left_over == []


def test_a_compiler_that_says_nothing_is_no_answer(setting: Setting) -> None:
    with pytest.raises(CompilerFailed, match="ended with status 0"):
        setting.compiler("").compile(STEP)


def test_a_compiler_is_ended_at_its_deadline_and_progress_is_told(setting: Setting) -> None:
    compiler = setting.compiler("import time\ntime.sleep(600)\n", timeout_seconds=1.0)
    with pytest.raises(CompilerFailed, match=r"took longer than 1 s\. Increase --timeout_seconds"):
        compiler.compile(STEP)
    assert setting.said[0].startswith("compiling for v5e:2x2: ")
    assert setting.left_over == []
