"""One page's blocks, run in order in an empty folder."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.docs.blocks import Block

_PROCESS = Path(__file__).with_name("page_process.py")


@dataclass(frozen=True)
class Outcome:
    """How one block ended.

    Attributes:
        block: The block.
        seconds: How long it ran.
        error: What went wrong, or None.
    """

    block: Block
    seconds: float
    error: str | None


def run_page(blocks: list[Block], programs: Path, *, seconds: float) -> list[Outcome]:
    """Runs the blocks of one page; stops after the first that fails, since later ones build on it.

    Args:
        blocks: The blocks of one page, in order.
        programs: Folder with `python` and `tfscale`.
        seconds: Deadline of a block.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "page"
        folder.mkdir()
        log = Path(temporary) / "output"
        environment = _environment(programs)
        outcomes: list[Outcome] = []
        with log.open("w+b") as output, _Python(programs, folder, environment, output) as python:
            for block in blocks:
                if not block.is_run:
                    continue
                began, at = time.monotonic(), output.seek(0, os.SEEK_END)
                if block.title is not None:
                    file = folder / block.title
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(block.code, "utf-8")
                    error = None
                elif block.language == "python":
                    error = python.run(block, seconds)
                else:
                    error = _shell(block, folder, environment, output, seconds)
                if error is not None:
                    output.seek(at)
                    error = f"{output.read().decode(errors='replace')[-4000:]}{error}"
                outcomes.append(Outcome(block, time.monotonic() - began, error))
                if error is not None:
                    break
        return outcomes


class _Python:
    """The Python process of one page, started with its first Python block."""

    def __init__(
        self, programs: Path, folder: Path, environment: dict[str, str], output: IO[bytes]
    ) -> None:
        self._start = (programs, folder, environment, output)
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._unread = b""

    def __enter__(self) -> _Python:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            _end(self._process)
            os.close(self._answers)

    def run(self, block: Block, seconds: float) -> str | None:
        """Runs one block; returns what went wrong."""
        process = self._started()
        assert process.stdin is not None
        request = {"code": block.code, "page": block.page, "line": block.line}
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return "the page's Python process has ended"
        end = time.monotonic() + seconds
        while b"\n" not in self._unread:
            if not select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]:
                return f"the block did not end within {seconds:.0f} s"
            read = os.read(self._answers, 1 << 16)
            if not read:
                return f"the page's Python process ended with status {process.wait()}"
            self._unread += read
        answer, _, self._unread = self._unread.partition(b"\n")
        error: str | None = json.loads(answer)["error"]
        return error

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            programs, folder, environment, output = self._start
            self._answers, writes = os.pipe()
            self._process = subprocess.Popen(
                [str(programs / "python"), str(_PROCESS), str(writes)],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writes,),
                start_new_session=True,
            )
            os.close(writes)
        return self._process


def _shell(
    block: Block, folder: Path, environment: dict[str, str], output: IO[bytes], seconds: float
) -> str | None:
    process = subprocess.Popen(
        ["sh", "-e", "-c", block.code],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"the block did not end within {seconds:.0f} s"
    finally:
        _end(process)
    return None if status == 0 else f"exit status {status}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started; it is the leader of its own session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def _environment(programs: Path) -> dict[str, str]:
    """This process's variables without what would lead to this checkout or into a cluster."""
    left_out = ("PYTHONPATH", "TF_CONFIG", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }


def grouped(blocks: list[Block]) -> Iterator[list[Block]]:
    """Yields the blocks of each page that has one to run."""
    for page in dict.fromkeys(block.page for block in blocks):
        own = [block for block in blocks if block.page == page]
        if any(block.is_run for block in own):
            yield own
