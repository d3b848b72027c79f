"""What a worker is in the middle of: a process that is killed leaves the newest moment.

    heartbeat-0.json    worker 0: {"clock": ..., "position": ..., "phases": ..., "step_phases": ...}

The file has one line of a fixed size, which a thread overwrites ten times a second. When `fit` ends
by itself it is removed. Else the next process of the worker appends it to the worker's file.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strategies.extension import announce
from tfscale.files.plain_files import read_plain
from tfscale.monitor.journal import clock

_SECONDS = 0.1
_SIZE = 1024
"""Bytes: within a page, so that a kill leaves the old line or the new one."""
_END_SECONDS = 10.0


class Heartbeat:
    """Writes over the file of a worker from a thread of its own, until it is ended.

    Args:
        folder: The folder of Monitor, which exists.
        worker: The worker's index.
        values: Returns "steps" and "phases" of the time "since" the newest line, and "position";
            and "unwritten" if lines could not be written, see `worker_record`.

    Raises:
        OSError: If the file cannot be made.
    """

    def __init__(self, folder: Path, worker: int, values: Callable[[], dict[str, Any]]) -> None:
        self._path = file_of(folder, worker)
        self._values = values
        self._at_step: dict[str, Any] = {}
        self._is_over = threading.Event()
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._is_announced = False
        self._try_to_beat()
        self._thread = threading.Thread(target=self._go_on, name="Monitor", daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._is_over.wait(_SECONDS):
            self._try_to_beat()

    def _try_to_beat(self) -> None:
        try:
            self._beat()
        except OSError as error:
            if not self._is_announced:
                self._is_announced = True
                announce(
                    f"Monitor cannot write {self._path.name}: {error}. If this process does not "
                    "end by itself, what follows its newest line counts as stopped."
                )

    def _beat(self) -> None:
        now = self._values()
        # The step that runs is apart, because its time says nothing about the steps before it.
        if any(self._at_step.get(name) != now[name] for name in ("since", "position")):
            self._at_step = now
        before = self._at_step
        step_phases = {name: now["phases"][name] - before["phases"][name] for name in now["phases"]}
        line = {
            "event": "heartbeat",
            "time": time.time(),
            "clock": clock(),
            "process": os.getpid(),
            "steps": now["steps"],
            "position": now["position"],
            "phases": _rounded(before["phases"]),
            "step_phases": _rounded(step_phases),
        }
        if unwritten := now.get("unwritten"):
            line["unwritten"] = unwritten
        os.pwrite(self._file, f"{json.dumps(line):<{_SIZE - 1}}\n".encode(), 0)

    def end(self) -> None:
        """Writes for the last time; the file stays if `remove` was not called."""
        if not self._is_over.is_set():
            self._stop()
            self._try_to_beat()
            self._close()

    def remove(self) -> None:
        """Ends it without a trace, because the worker's file has its end."""
        self._stop()
        self._close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _stop(self) -> None:
        self._is_over.set()
        self._thread.join(_END_SECONDS)

    def _close(self) -> None:
        """Closes the file, unless the disk keeps the thread, which could then write to another."""
        if not self._thread.is_alive():
            os.close(self._file)


def file_of(folder: Path, worker: int) -> Path:
    """Returns the path of a worker's heartbeat."""
    return folder / f"heartbeat-{worker}.json"


def left_heartbeat(folder: Path, worker: int) -> dict[str, Any] | None:
    """Returns the line of the heartbeat that an earlier process left, or None."""
    try:
        found = json.loads(read_plain(file_of(folder, worker)))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None  # a host that lost power may leave zeros
    is_line = isinstance(found, dict) and found.get("event") == "heartbeat"
    return found if is_line else None


def remove_heartbeat(folder: Path, worker: int) -> None:
    """Removes the heartbeat that an earlier process left, when its line is in the file."""
    file_of(folder, worker).unlink(missing_ok=True)


def _rounded(phases: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 6) for name, seconds in phases.items()}
