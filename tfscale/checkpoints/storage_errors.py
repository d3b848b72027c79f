"""Distinguishes missing files from a failing storage.

The difference matters. If a file is missing, a checkpoint is damaged, and the previous one is used.
If the storage does not respond, its checkpoints may be intact: the operation is retried for a short
time, and then training ends with an error instead of starting from an older step.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from strategies.extension import Deadline, announce

T = TypeVar("T")

PAUSES_SECONDS = (2.0, 6.0)
"""Pauses between attempts."""
DEADLINE_SECONDS = 20.0
"""After this no further attempt is started. A pending attempt is not interrupted."""
NOTICE_SECONDS = 10.0
"""After this a pending call is reported."""

_DAMAGE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}
_LASTING = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
# TensorFlow uses gRPC's codes: absl/status/status.h.
_NOT_FOUND, _OUT_OF_RANGE, _DATA_LOSS = 5, 11, 15
_DAMAGE_CODES = {_NOT_FOUND, _OUT_OF_RANGE, _DATA_LOSS}
_INVALID_ARGUMENT, _PERMISSION_DENIED, _UNIMPLEMENTED, _UNAUTHENTICATED = 3, 7, 12, 16
_LASTING_CODES = {_INVALID_ARGUMENT, _PERMISSION_DENIED, _UNIMPLEMENTED, _UNAUTHENTICATED}


def is_damage(error: Exception) -> bool:
    """Returns whether an error in reading a file means that it is missing or incomplete.

    Args:
        error: An OSError, or one of `tf.errors`.
    """
    code = getattr(error, "error_code", None)
    return code in _DAMAGE_CODES or getattr(error, "errno", None) in _DAMAGE


def lasts(error: Exception) -> bool:
    """Returns whether an error persists until its cause is fixed, such as a permission.

    Args:
        error: An OSError, or one of `tf.errors`.
    """
    cause = error.__cause__ or error
    code = getattr(cause, "error_code", None)
    return code in _LASTING_CODES or getattr(cause, "errno", None) in _LASTING


def reason(error: BaseException) -> str:
    """Returns the message of a storage error in one line.

    Args:
        error: An OSError, or one of `tf.errors`.
    """
    cause = error.__cause__ or error
    text = str(getattr(cause, "message", None) or cause)
    return " ".join(text.split()) or type(cause).__name__


def answered(
    call: Callable[[], T], place: str, errors: tuple[type[Exception], ...], doing: str
) -> T:
    """Retries a storage operation for a limited time, with messages on standard error.

    Args:
        call: The operation, which may be called several times.
        place: The path, for messages.
        errors: The errors of the storage.
        doing: The purpose of the operation, such as "looking for checkpoints".

    Returns:
        The result of `call`.

    Raises:
        OSError: If it keeps failing.
    """
    deadline = Deadline(DEADLINE_SECONDS)
    pauses = iter(PAUSES_SECONDS)
    while True:
        try:
            with _named(f"the storage of {place}: {doing}"):
                return call()
        except errors as error:
            pause = next(pauses, None)
            if pause is None or lasts(error) or pause > deadline.left():
                raise OSError(
                    f"The storage of {place} failed while {doing}: {reason(error)}. The "
                    "checkpoints may be intact: they are not changed, and training does not begin "
                    "without them. Check the storage, the network and the permissions, then run "
                    "again: training resumes from the newest."
                ) from error
            announce(
                f"WARNING: the storage of {place} failed while {doing}: {reason(error)}. Retrying "
                f"in {pause:g} s, for at most {DEADLINE_SECONDS:g} s."
            )
            time.sleep(pause)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Prints a message if the context takes long."""
    line = f"waiting for {what}, for {NOTICE_SECONDS:g} s so far."
    timer = threading.Timer(NOTICE_SECONDS, announce, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
