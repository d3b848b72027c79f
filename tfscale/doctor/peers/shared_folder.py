"""Whether tasks share a folder: the same files, soon, with locks and whole renames.

The task that asks writes a file and holds it; the task that is asked looks at it. No clocks are
compared: the delay is how long the other one had to look.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from strategies.extension import Deadline
from tfscale.doctor.storage import try_lock
from tfscale.files.output_files import reason

SEE_SECONDS = 10.0
"""How long a file of one task may take until another one sees it."""
_READ_SECONDS = 0.3
_PAUSE_SECONDS = 0.01
_CONTENT_BYTES = 4096
_NAME = re.compile(r"\.tfscale-doctor-peers-[0-9a-f]{32}")
_LOCKS: tuple[Literal["fcntl", "flock"], ...] = ("fcntl", "flock")

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Asks the other task a question, and returns its answer."""


def compare_folder(folder: Path, ask: Ask) -> dict[str, Any]:
    """Writes a file for another task and asks what it sees.

    Args:
        folder: The folder that the tasks share.
        ask: See `Ask`.

    Returns:
        `seen` (a bool) and, if so, `delay_seconds`, `locks` ("kept", "ignored" or an error, by
        kind) and `torn_reads` while the file was replaced; or `error`.
    """
    path = folder / f".tfscale-doctor-peers-{uuid.uuid4().hex}"
    try:
        return _compared(path, ask)
    except OSError as error:
        return {"seen": False, "error": reason(error)}
    finally:
        for each in (path, path.with_suffix(".part")):
            with contextlib.suppress(OSError):
                each.unlink(missing_ok=True)


def _compared(path: Path, ask: Ask) -> dict[str, Any]:
    with path.open("xb", buffering=0) as file:
        file.write(b"a" * _CONTENT_BYTES)
        os.fsync(file.fileno())
        seen = ask({"ask": "see", "file": path.name})
        if seen.get("error") or not seen.get("seen"):
            return {"seen": False, "error": str(seen.get("error", ""))}
        locks = {}
        for kind in _LOCKS:
            try:
                try_lock(file.fileno(), kind)
            except OSError as error:
                locks[kind] = reason(error)
                continue
            locks[kind] = str(ask({"ask": "lock", "file": path.name, "kind": kind}).get("lock"))
    return {
        "seen": True,
        "delay_seconds": float(seen["delay_seconds"]),
        "locks": locks,
        "torn_reads": _torn_reads(path, ask),
    }


def _torn_reads(path: Path, ask: Ask) -> int:
    """Replaces the file while the other task reads it, and returns what it says."""
    ended = threading.Event()

    def replace() -> None:
        part = path.with_suffix(".part")
        for letter in itertools.cycle((b"b", b"c")):
            if ended.is_set():
                return
            with contextlib.suppress(OSError):
                part.write_bytes(letter * _CONTENT_BYTES)
                part.replace(path)
            ended.wait(_PAUSE_SECONDS)

    thread = threading.Thread(target=replace, name="tfscale doctor", daemon=True)
    thread.start()
    try:
        return int(ask({"ask": "read", "file": path.name})["torn_reads"])
    finally:
        ended.set()
        thread.join(SEE_SECONDS)


def answer_about(folder: Path | None, question: Mapping[str, Any]) -> dict[str, Any]:
    """Answers what another task asks about its file in the folder that is shared.

    Args:
        folder: The folder of this task, or None if it was given none.
        question: `ask` is "see", "lock" or "read"; `file` is a name that `compare_folder` makes.

    Raises:
        ValueError: If it is no such question.
    """
    name = question.get("file")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("not the name of a file of this exchange")
    if folder is None:
        return {"error": "it was started without --shared_dir"}
    path = folder / name
    try:
        if question.get("ask") == "see":
            return _see(path)
        if question.get("ask") == "lock" and question.get("kind") in _LOCKS:
            return {"lock": _locked(path, question["kind"])}
        if question.get("ask") == "read":
            return {"torn_reads": _read_repeatedly(path)}
    except OSError as error:
        return {"error": reason(error)}
    raise ValueError("not a question about a folder")


def _see(path: Path) -> dict[str, Any]:
    deadline = Deadline(SEE_SECONDS)
    while True:  # looks once more at the end: this process may have stood still meanwhile
        is_over = deadline.is_over()
        with contextlib.suppress(FileNotFoundError):
            if len(_content(path)) == _CONTENT_BYTES:
                return {"seen": True, "delay_seconds": round(deadline.spent(), 3)}
        if is_over:
            return {"seen": False}
        time.sleep(_PAUSE_SECONDS)


def _locked(path: Path, kind: Literal["fcntl", "flock"]) -> str:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        return "ignored" if try_lock(descriptor, kind) else "kept"
    except OSError as error:
        return reason(error)
    finally:
        os.close(descriptor)


def _read_repeatedly(path: Path) -> int:
    """Returns how many reads found no file, a part of one, or parts of two."""
    torn = 0
    deadline = Deadline(_READ_SECONDS)
    while not deadline.is_over():
        try:
            content = _content(path)
        except FileNotFoundError:
            torn += 1
            continue
        except OSError as error:
            if error.errno == errno.ESTALE:  # NFS says so of a file replaced since it was opened
                continue
            raise
        torn += len(content) != _CONTENT_BYTES or len(set(content)) != 1
    return torn


def _content(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor)
        return file.read(_CONTENT_BYTES + 1)
