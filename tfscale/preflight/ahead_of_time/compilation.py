"""Compiles programs for a chip in a separate process, with a deadline and a cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strategies.extension import Deadline
from tfscale.preflight.ahead_of_time.environment import REQUIREMENTS
from tfscale.preflight.ahead_of_time.program import Program
from tfscale.preflight.ahead_of_time.progress import TookTooLong, run_with_progress
from tfscale.preflight.target import Target

COMPILER = Path(__file__).with_name("chip_compiler.py")
EVERY_SECONDS = 5.0
_TAIL = 2000


class CompilerFailed(Exception):
    """Raised if the compiler crashed or exceeded its deadline. The text is for the user."""


@dataclass(frozen=True)
class Answer:
    """The compiler's answer, as stored in the cache.

    Attributes:
        kind: "compiled", "out_of_memory" or "refused".
        message: The compiler's error, or why `module` has only its first line.
        sizes: "argument", "output", "alias", "temp" and "generated_code", in bytes.
        module: Text of the optimized module, or "".
        versions: The versions of JAX and libtpu.
        seconds: Seconds that the compilation took.
        is_cached: Whether the answer comes from the cache.
    """

    kind: str
    message: str
    sizes: dict[str, int]
    module: str
    versions: dict[str, str]
    seconds: float
    is_cached: bool = False


class ChipCompiler:
    """Compiles programs for one target.

    Args:
        python: The Python interpreter of the compiler's environment.
        target: The chips to compile for.
        cache: Folder for the cache. It need not exist.
        timeout_seconds: Deadline of one compilation. Positive.
        say: Called with a line of progress every `every_seconds`.
        compiler: The program that compiles, see `chip_compiler`.
        every_seconds: Seconds between lines of progress. Positive.
    """

    def __init__(
        self,
        python: Path,
        target: Target,
        cache: Path,
        *,
        timeout_seconds: float,
        say: Callable[[str], None],
        compiler: Path = COMPILER,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._python = python
        self._target = target
        self._cache = cache
        self._timeout = timeout_seconds
        self._say = say
        self._compiler = compiler
        self._every = every_seconds

    def compile(self, program: Program) -> Answer:
        """Compiles a program, or returns the cached answer for an equal one.

        Args:
            program: The step.

        Raises:
            CompilerFailed: If the compiler crashes or exceeds the deadline.
        """
        kept = self._cache / self._key(program)
        if (kept / "answer.json").is_file():
            self._say(f"found in the cache {kept}")
            return _read(kept, is_cached=True)
        self._cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="compiling-", dir=self._cache))
        try:
            request = {"topology": str(self._target), "num_replicas": program.num_replicas}
            (folder / "request.json").write_text(json.dumps(request), "utf-8")
            (folder / "program.hlo").write_bytes(program.hlo)
            seconds = self._run(folder)
            result = json.loads((folder / "result.json").read_text("utf-8"))
            answer = {"message": "", "bytes": {}, **result, "seconds": round(seconds, 1)}
            (folder / "answer.json").write_text(json.dumps(answer), "utf-8")
            (folder / "program.hlo").unlink()  # it can be traced again
            try:
                folder.rename(kept)
            except OSError:  # another process was faster, with the same answer
                return _read(kept, is_cached=True)
            return _read(kept)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path) -> float:
        """Runs the compiler and returns the seconds that it took."""
        deadline = Deadline(self._timeout)
        log = folder / "log.txt"
        # -I: the user's PYTHONPATH is meant for another environment.
        command = [str(self._python), "-I", str(self._compiler), str(folder)]
        doing = f"compiling for {self._target}"
        try:
            status = run_with_progress(command, log, deadline, self._say, doing, every=self._every)
        except TookTooLong:
            raise CompilerFailed(
                f"{doing} took longer than {self._timeout:g} s. Increase --timeout_seconds, or use "
                "a smaller batch."
            ) from None
        if status != 0 or not (folder / "result.json").is_file():
            text = log.read_text("utf-8", errors="replace").strip()[-_TAIL:]
            end = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise CompilerFailed(f"the compiler for {self._target} {end}. Last output: {text}")
        return deadline.spent()

    def _key(self, program: Program) -> str:
        """Returns a cache key for the program, the chip and the compiler with its source code."""
        parts = [str(self._target), str(program.num_replicas), *REQUIREMENTS]
        digest = hashlib.sha256("\n".join(parts).encode())
        digest.update(self._compiler.read_bytes())
        digest.update(program.fingerprint.encode())
        return digest.hexdigest()[:32]


def _read(folder: Path, *, is_cached: bool = False) -> Answer:
    found: dict[str, Any] = json.loads((folder / "answer.json").read_text("utf-8"))
    module = folder / "optimized.txt"
    return Answer(
        kind=found["kind"],
        message=found["message"],
        sizes=found["bytes"],
        module=module.read_text("utf-8") if module.is_file() else "",
        versions=found["versions"],
        seconds=found["seconds"],
        is_cached=is_cached,
    )
