"""What an error of a storage says: that something is not there, or that the storage fails.

The difference decides over work. A file that is missing makes a checkpoint damaged, and the one
before is used. A storage that does not answer says nothing about its checkpoints: it is asked again
for a short time, and then training ends with its error instead of beginning from an older step.
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
"""Between attempts, one more of which are made than there are pauses."""
DEADLINE_SECONDS = 20.0
"""After this no further attempt begins. One that has begun ends when the storage ends it."""
NOTICE_SECONDS = 10.0
"""After this a call that has not returned is named."""

_DAMAGE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}
_LASTING = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
# TensorFlow's codes, which are those of gRPC: absl/status/status.h.
_NOT_FOUND, _OUT_OF_RANGE, _DATA_LOSS = 5, 11, 15
_DAMAGE_CODES = {_NOT_FOUND, _OUT_OF_RANGE, _DATA_LOSS}
_INVALID_ARGUMENT, _PERMISSION_DENIED, _UNIMPLEMENTED, _UNAUTHENTICATED = 3, 7, 12, 16
_LASTING_CODES = {_INVALID_ARGUMENT, _PERMISSION_DENIED, _UNIMPLEMENTED, _UNAUTHENTICATED}


def is_damage(error: Exception) -> bool:
    """Tells whether an error in reading a file says that it is not there, or is no whole file.

    Args:
        error: An OSError, or one of `tf.errors`.
    """
    code = getattr(error, "error_code", None)
    return code in _DAMAGE_CODES or getattr(error, "errno", None) in _DAMAGE


def lasts(error: Exception) -> bool:
    """Tells whether an error stays until its cause is fixed, such as a permission.

    Args:
        error: An OSError, or one of `tf.errors`.
    """
    cause = error.__cause__ or error
    code = getattr(cause, "error_code", None)
    return code in _LASTING_CODES or getattr(cause, "errno", None) in _LASTING


def reason(error: BaseException) -> str:
    """Returns what a storage said, in one line of text.

    Args:
        error: An OSError, or one of `tf.errors`.
    """
    cause = error.__cause__ or error
    text = str(getattr(cause, "message", None) or cause)
    return " ".join(text.split()) or type(cause).__name__


def answered(
    call: Callable[[], T], place: str, errors: tuple[type[Exception], ...], doing: str
) -> T:
    """Asks a storage until it answers, for a bounded time; says on standard error that it waits.

    Args:
        call: Asks; may be called several times.
        place: The path that is looked at.
        errors: What the storage raises.
        doing: What is asked for, such as "looking for checkpoints".

    Returns:
        What `call` returned.

    Raises:
        OSError: If it does not answer, with the place, the last error and the cure.
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
                    f"The storage of {place} failed while {doing}: {reason(error)}. That says "
                    "nothing about the checkpoints: all are left as they are, and training does "
                    "not begin without them. Look at the storage, the network and the permissions, "
                    "and start again: training resumes from the newest."
                ) from error
            announce(
                f"WARNING: the storage of {place} failed while {doing}: {reason(error)}. Trying "
                f"again in {pause:g} s, for {DEADLINE_SECONDS:g} s at most."
            )
            time.sleep(pause)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Says, if the context takes long, what is waited for."""
    line = f"waiting for {what}, for {NOTICE_SECONDS:g} s so far."
    timer = threading.Timer(NOTICE_SECONDS, announce, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
