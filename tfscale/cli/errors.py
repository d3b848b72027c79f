"""How a command says that something cannot be done: in one line on standard error."""

from __future__ import annotations

import errno
import os
import sys

from tfscale.files.secret_masking import masked_text


def complain(program: str, problem: object) -> None:
    """Prints `<program>: <problem>` on standard error: one line, without secrets.

    Args:
        program: What the line begins with.
        problem: A sentence, or an error whose text is one.
    """
    line = masked_text(" ".join(str(problem).split()))
    print(f"{program}: {line}", file=sys.stderr, flush=True)


def finish_output(program: str) -> bool:
    """Writes out what is left of standard output; complains where it cannot be written.

    After `tfscale ... | head` nothing reads it, and it may be a file on a full disk.

    Args:
        program: What the line begins with.

    Returns:
        Whether all of it was written.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        complain_of_output(program, error)
        return False
    return True


def is_of_output(error: OSError) -> bool:
    """Tells whether an error is one of writing to an open stream, not of opening a file."""
    return error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO)


def complain_of_output(program: str, error: OSError) -> None:
    """Says that standard output cannot be written, once: from now on it takes everything.

    Python would fail on what is left of it at the end of the process.

    Args:
        program: What the line begins with.
        error: What writing to it raised.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    complain(program, f"standard output could not be written: {error.strerror}.")
