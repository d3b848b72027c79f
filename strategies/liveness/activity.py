"""What a worker is doing, as a phrase that follows its name."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from strategies.progress import Place

_LIBRARIES = tuple(
    f"{os.sep}{Path(*parts)}{os.sep}"
    for parts in (("tensorflow", "python"), ("keras", "src"), ("site-packages",))
)
_CALLBACK_LIST = str(Path("keras", "src", "callbacks", "callback_list.py"))
_OWN = str(Path(__file__).resolve().parents[1])
_STANDARD_LIBRARY = str(Path(os.__file__).resolve().parent)


def described(place: Place) -> str:
    """Returns where a worker is, counting from 1 as Keras's progress bar does.

    Example:
        >>> described(Place(epoch=0, step=4, phase="input"))
        'epoch 1, step 5, phase input'
        >>> described(Place(epoch=0, step=20, phase="evaluate", batch=3))
        'epoch 1, step 20, batch 3 of the evaluation, phase evaluate'
    """
    return f"{numbered(place)}, phase {place.phase}"


def numbered(place: Place) -> str:
    """Returns at which epoch, step and batch a worker is, from 1.

    Example:
        >>> numbered(Place(epoch=0, step=4, phase="input"))
        'epoch 1, step 5'
        >>> numbered(Place(epoch=0, step=0, phase="collective", batch=3, call="evaluate"))
        'batch 3 of evaluate'
    """
    is_reading = place.phase in ("input", "trace")
    if place.call in ("evaluate", "predict"):
        return f"batch {(place.batch or 0) + is_reading} of {place.call}"
    at = [f"epoch {place.epoch + 1}"]
    if place.batch is None:
        at.append(f"step {place.step + is_reading}")
    else:
        at += [f"step {place.step}", f"batch {place.batch + is_reading} of the evaluation"]
    return ", ".join(at)


def doing(
    place: Place, question: str, frame: FrameType | None, others: Iterable[FrameType] = ()
) -> str:
    """Returns what a worker does, as a phrase that follows its name.

    Args:
        place: Where it is.
        question: That of the rendezvous at which it waits, or empty.
        frame: The innermost frame of the training thread.
        others: The innermost frames of threads that may run Python of its input.
    """
    callback, line = _callback(frame), _users_line(frame)
    inside = f"in the callback {callback}" if callback else ""
    if question:
        what = f"waits at {question!r}" + (f" {inside}" if inside else "")
    elif place.phase == "outside":
        what = "is outside of fit, evaluate and predict"
    elif place.phase == "trace":
        what = "traces or compiles its first step"
    elif place.phase == "input":
        what = "reads its input"
        line = next(filter(None, map(_users_line, others)), line)
    elif place.phase == "collective":
        what = "waits for the other workers in an all-reduce"
    elif place.phase == "save":
        what = f"saves {inside}".rstrip()
    elif place.phase == "callbacks":
        what = f"is {inside or 'between two steps'}"
    else:
        what = "computes"
    at = "" if place.phase == "outside" else f", {numbered(place)}"
    return f"{what}{at}" + (f" ({line})" if line else "")


def _callback(frame: FrameType | None) -> str:
    """Returns the callback method that Keras called last, such as "Slow.on_epoch_end"."""
    inner = ""
    for outer, _ in traceback.walk_stack(frame):
        if outer.f_code.co_filename.endswith(_CALLBACK_LIST):
            return inner
        inner = "" if _is_of(outer, _OWN) else _qualified_name(outer)
    return ""


def _users_line(frame: FrameType | None) -> str:
    """Returns the innermost line of the user's program, such as "train.py:40 in rows"."""
    for outer, line in traceback.walk_stack(frame):
        name = outer.f_code.co_filename
        is_library = any(part in name for part in _LIBRARIES) or name.startswith("<")
        if not (is_library or _is_of(outer, _OWN) or _is_of(outer, _STANDARD_LIBRARY)):
            return f"{Path(name).name}:{line} in {outer.f_code.co_name}"
    return ""


def _is_of(frame: FrameType, folder: str) -> bool:
    return frame.f_code.co_filename.startswith(folder + os.sep)


def _qualified_name(frame: FrameType) -> str:
    return frame.f_code.co_qualname.rpartition("<locals>.")[2]
