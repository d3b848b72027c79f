"""Why this process ends, left in a file for the launcher that started it.

A worker that ends because of another one says so, and names it; so the launcher need not guess from
the order of exits, in which those that wait for a failed worker often come first. The file is named
by TFSCALE_EXIT_REASON, which `tfscale launch` sets. Needs no TensorFlow.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from strategies.cluster.environments import take_exit_reason_path

LONGEST_WHY = 300
_LONGEST_FILE = 10_000

_TASK = re.compile(r"/job:(chief|worker|ps)/(?:replica:\d+/)?task:(\d+)")
_OF_OTHERS = re.compile(
    r"Collective ops is aborted by|[Cc]oordination service|Socket closed|Connection refused"
    r"|Connection reset|failed to connect to all addresses"
)
"""What TensorFlow's errors hold where another task has failed."""

_BURIED = "Graph execution error:"
_RAISED = re.compile(r"[A-Za-z_.]*(Error|Exception): ")
"""How Python of a generator or a `py_function` stands in TensorFlow's error about it."""


@dataclass(frozen=True)
class ExitReason:
    """Why a process ended.

    Attributes:
        why: One line, such as "ValueError: a row of letters".
        is_own: Whether it failed by itself, and not because of another task.
        at_fault: The task it failed because of, such as "worker 1", or empty where not known.
    """

    why: str
    is_own: bool
    at_fault: str = ""


def read_exit_reason(path: Path) -> ExitReason | None:
    """Returns what a process left, or None where there is nothing to be read."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LONGEST_FILE))
        words = ExitReason(str(found["why"]), bool(found["is_own"]), str(found["at_fault"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return words


def words_about(error: BaseException, own: str) -> ExitReason:
    """Says whether an error is this task's own, or comes of another one, and of which.

    Args:
        error: What ended the program, or a call of Keras; the errors that it followed are looked at
            too.
        own: This task, such as "worker 0".
    """
    text = str(error).strip() or "no message"
    is_exit = isinstance(error, SystemExit)  # its status is known
    why = "" if is_exit else f"{type(error).__name__}: {_last_sentence(text)}"
    for cause in _chain(error):
        task = getattr(cause, "at_fault", None)
        if task is not None:
            return ExitReason(why, is_own=task == own, at_fault=task)
        if type(cause).__module__.startswith("tensorflow."):
            said = str(cause)
            reported = [_name(*pair) for pair in _TASK.findall(said) if _name(*pair) != own]
            if reported:
                return ExitReason(why, is_own=False, at_fault=reported[0])
            if _OF_OTHERS.search(said):
                return ExitReason(why, is_own=False)
    return ExitReason(why, is_own=True)


class _Speaker:
    """What this process has to say, and where."""

    def __init__(self, own: str, path: Path) -> None:
        self.own = own
        self.noted: BaseException | None = None
        self._path = path
        self._has_spoken = False

    def leave(self, words: ExitReason) -> None:
        """Writes the words; the first ones stay."""
        if self._has_spoken:
            return
        self._has_spoken = True
        part = self._path.with_suffix(".part")
        with contextlib.suppress(OSError):  # a full disk does not make the end any worse
            part.write_text(json.dumps(asdict(words)), "utf-8")
            part.replace(self._path)

    def leave_noted(self) -> None:
        if self.noted is not None:
            self.leave(words_about(self.noted, self.own))


_SPEAKERS: list[_Speaker] = []


def write_exit_reason_at_end(task_type: str, task_index: int) -> None:
    """Lets this process say why it fails, where the launcher listens. Once a process.

    Args:
        task_type: The job of this task.
        task_index: Its index there.
    """
    path = take_exit_reason_path()
    if path is None:
        return
    speaker = _Speaker(_name(task_type, task_index), Path(path))
    _SPEAKERS.append(speaker)
    before = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        speaker.leave(words_about(error, speaker.own))
        before(kind, error, traceback)

    sys.excepthook = hook
    atexit.register(speaker.leave_noted)  # a program may catch the error, and end with a status


def write_exit_reason(words: ExitReason) -> None:
    """Says at once why this process will end."""
    for speaker in _SPEAKERS:
        speaker.leave(words)


def note_error(error: BaseException | None) -> None:
    """Notes how the last call of Keras ended: with an error, or well."""
    for speaker in _SPEAKERS:
        speaker.noted = error


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
    """Returns the line that says what happened, which TensorFlow's errors bury in others."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    of_others = [line for line in lines if _OF_OTHERS.search(line)]
    raised = [line for line in lines if _RAISED.match(line)] if lines[0] == _BURIED else []
    telling = [*of_others[:1], *raised[-1:], lines[0]][0]
    return telling if len(telling) <= LONGEST_WHY else telling[: LONGEST_WHY - 3] + "..."
