"""The exit reason: why this process ended, in a file for the launcher that started it.

A worker that ends because of another one names it. So the launcher need not guess from the order of
exits, in which workers that waited for a failed one often come first. TFSCALE_EXIT_REASON, set by
`tfscale launch`, names the file. Needs no TensorFlow.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from strategies.cluster.environments import take_exit_reason_path

LONGEST_WHY = 300
_LONGEST_FILE = 100_000
_LONGEST_TRACEBACK = 20_000

_TASK = re.compile(r"/job:(chief|worker|ps)/(?:replica:\d+/)?task:(\d+)")
_OF_OTHERS = re.compile(
    r"Collective ops is aborted by|[Cc]oordination service|Socket closed|Connection refused"
    r"|Connection reset|failed to connect to all addresses"
)
"""What TensorFlow's errors contain if another task has failed."""

_GRAPH_ERROR = "Graph execution error:"
_RAISED = re.compile(r"[A-Za-z_.]*(Error|Exception): ")
"""How an error of a generator or a `py_function` appears in TensorFlow's error about it."""


@dataclass(frozen=True)
class ExitReason:
    """Why a process ended.

    Attributes:
        why: One line, such as "ValueError: a row of letters".
        is_own: Whether it failed independently of other tasks.
        at_fault: The task that made it fail, such as "worker 1"; empty if unknown.
        traceback: The traceback, of which only the end is kept if it is long; for people.
    """

    why: str
    is_own: bool
    at_fault: str = ""
    traceback: str = ""


def read_exit_reason(path: Path) -> ExitReason | None:
    """Returns the exit reason that a process wrote, or None if it wrote none."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LONGEST_FILE))
        reason = ExitReason(str(found["why"]), bool(found["is_own"]), str(found["at_fault"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return reason


def exit_reason_of(error: BaseException, own: str) -> ExitReason:
    """Returns whether an error was caused by this task or by another one, and by which.

    Args:
        error: The error that ended the program or a call of Keras. Its causes are examined too.
        own: This task, such as "worker 0".
    """
    if isinstance(error, SystemExit):
        why = shown = ""
    else:
        text = str(error).strip() or "no message"
        why = f"{type(error).__name__}: {_last_sentence(text)}"
        shown = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
    is_own, at_fault = _cause(error, own)
    return ExitReason(why, is_own, at_fault, shown)


def _cause(error: BaseException, own: str) -> tuple[bool, str]:
    """Returns whether this task caused an error, and the task that is known to have caused it."""
    for cause in _chain(error):
        task = getattr(cause, "at_fault", None)
        if task is not None:
            return task == own, task
        if type(cause).__module__.startswith("tensorflow."):
            message = str(cause)
            reported = [_name(*pair) for pair in _TASK.findall(message) if _name(*pair) != own]
            if reported:
                return False, reported[0]
            if _OF_OTHERS.search(message):
                return False, ""
    return True, ""


class _Writer:
    """Writes the exit reason of this process, once."""

    def __init__(self, own: str, path: Path) -> None:
        self.own = own
        self.noted: BaseException | None = None
        self._path = path
        self._has_written = False

    def write(self, reason: ExitReason) -> None:
        """Writes the reason; the first one stays."""
        if self._has_written:
            return
        self._has_written = True
        text = json.dumps(asdict(reason))
        part = self._path.with_suffix(".part")
        try:
            part.write_text(text, "utf-8")
            part.replace(self._path)
        except OSError:
            # A mount, such as /dev/termination-log of a pod, cannot be replaced, only written to.
            with contextlib.suppress(OSError):  # such as a full disk
                self._path.write_text(text, "utf-8")
                part.unlink(missing_ok=True)

    def write_noted(self) -> None:
        if self.noted is not None:
            self.write(exit_reason_of(self.noted, self.own))


_WRITERS: list[_Writer] = []


def write_exit_reason_at_end(task_type: str, task_index: int) -> None:
    """Makes this process write why it fails, if a launcher reads it; once per process.

    Args:
        task_type: The job of this task.
        task_index: Its index there.
    """
    path = take_exit_reason_path()
    if path is None:
        return
    writer = _Writer(_name(task_type, task_index), Path(path))
    _WRITERS.append(writer)
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
        writer.write(exit_reason_of(error, writer.own))
        before(kind, error, place)

    sys.excepthook = hook
    atexit.register(writer.write_noted)  # a program may catch the error and end with a status


def write_exit_reason(reason: ExitReason) -> None:
    """Writes now why this process will end."""
    for writer in _WRITERS:
        writer.write(reason)


def note_error(error: BaseException | None) -> None:
    """Records how the last call of Keras ended: with an error, or None."""
    for writer in _WRITERS:
        writer.noted = error


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _name(task_type: str, task_index: int | str) -> str:
    return task_type if task_type == "chief" else f"{task_type} {int(task_index)}"


def _last_sentence(text: str) -> str:
    """Returns the line that says what happened, out of the many of a TensorFlow error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    of_others = [line for line in lines if _OF_OTHERS.search(line)]
    raised = [line for line in lines if _RAISED.match(line)] if lines[0] == _GRAPH_ERROR else []
    best = [*of_others[:1], *raised[-1:], lines[0]][0]
    return _shortened(best)


def _shortened(sentence: str) -> str:
    """Returns at most `LONGEST_WHY` characters of a sentence, cut between words."""
    if len(sentence) <= LONGEST_WHY:
        return sentence
    begin = sentence[: LONGEST_WHY - 3]
    words = begin.rpartition(" ")[0]
    is_long_word = len(words) < LONGEST_WHY // 2  # such as a path: cut inside it
    return f"{begin if is_long_word else words}..."
