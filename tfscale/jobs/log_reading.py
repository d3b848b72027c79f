"""Reads the output of the tasks of a job, from files or from the programs of an engine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from strategies.extension import Deadline

Source = Path | tuple[str, ...]
_POLL_SECONDS = 0.5
_LAST_SECONDS = 10.0
_LONGEST_LINE = 1 << 20


class FileTail:
    """Reads the whole lines that a file gets.

    Args:
        path: The file, which may not exist yet.
        start: Bytes to skip. At least 0.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self._path = path
        self._read = start
        self._rest = b""

    def lines(self, *, is_last: bool = False) -> list[bytes]:
        """Returns the new lines, without their ends.

        Args:
            is_last: Whether a line without an end is returned too.
        """
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
            self._read += len(data)
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        if self._rest and (is_last or len(self._rest) > _LONGEST_LINE):
            lines.append(self._rest)
            self._rest = b""
        return lines


def print_logs(sources: Mapping[str, Source], last: int | None) -> None:
    """Prints what the tasks have printed so far, task by task.

    Args:
        sources: Where the output of each task is.
        last: Lines of each task, the last ones. None for all.
    """
    for task, source in sources.items():
        lines = _all_lines(source)
        write_lines(task, lines if last is None else lines[max(0, len(lines) - last) :])


def follow_logs(
    find_sources: Callable[[], Mapping[str, Source]], is_over: Callable[[], bool]
) -> None:
    """Prints the output of all tasks as it comes, until the job is over.

    Args:
        find_sources: Returns where the output of each task is; asked again, for new tasks.
        is_over: Returns whether the job has ended.
    """
    tails: dict[str, FileTail] = {}
    programs: dict[str, subprocess.Popen[bytes]] = {}
    readers: list[threading.Thread] = []
    try:
        while True:
            over = is_over()
            for task, source in find_sources().items():
                if isinstance(source, Path):
                    tails.setdefault(task, FileTail(source))
                elif task not in programs:
                    program = subprocess.Popen([*source, "--follow"], stdout=subprocess.PIPE)
                    programs[task] = program
                    readers.append(threading.Thread(target=_pass_on, args=(task, program)))
                    readers[-1].start()
            for task, tail in tails.items():
                write_lines(task, tail.lines(is_last=over))
            if over:
                deadline = Deadline(_LAST_SECONDS)
                for reader in readers:  # its program ends with the task, and may be late
                    reader.join(deadline.left())
                return
            time.sleep(_POLL_SECONDS)
    finally:
        for program in programs.values():
            program.terminate()
        for reader in readers:
            reader.join()


def lines_from_now(sources: Mapping[str, Source]) -> Callable[[], dict[str, list[bytes]]]:
    """Returns a function that returns by task the lines that files got since its last call."""
    tails = {
        task: FileTail(source, source.stat().st_size if source.exists() else 0)
        for task, source in sources.items()
        if isinstance(source, Path)
    }
    return lambda: {task: tail.lines(is_last=True) for task, tail in tails.items()}


def _all_lines(source: Source) -> list[bytes]:
    if isinstance(source, Path):
        return FileTail(source).lines(is_last=True)
    done = subprocess.run(source, stdout=subprocess.PIPE, check=False)
    return done.stdout.splitlines()


def _pass_on(task: str, program: subprocess.Popen[bytes]) -> None:
    assert program.stdout is not None
    for line in program.stdout:
        write_lines(task, [line.rstrip(b"\n")])


def write_lines(task: str, lines: list[bytes]) -> None:
    """Prints lines with the name of their task."""
    prefix = f"[{task.replace('-', ' ', 1).replace('_', ' ')}] ".encode()
    stream: BinaryIO = sys.stdout.buffer
    stream.write(b"".join(prefix + line + b"\n" for line in lines))
    stream.flush()
