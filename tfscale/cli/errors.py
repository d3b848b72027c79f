"""Errors of a command: one line on standard error, without secrets."""

from __future__ import annotations

import errno
import os
import sys

from tfscale.files.secret_masking import masked_text


def complain(program: str, problem: object) -> None:
    """Prints `<program>: <problem>` in one line on standard error, with secrets masked.

    Args:
        program: The start of the line, such as "tfscale bench".
        problem: A sentence, or an exception whose text is one.
    """
    line = masked_text(" ".join(str(problem).split()))
    print(f"{program}: {line}", file=sys.stderr, flush=True)


def finish_output(program: str) -> bool:
    """Flushes standard output, and prints an error if that fails.

    It fails after `tfscale ... | head`, when the reader is gone, or on a full disk.

    Args:
        program: The start of the line, such as "tfscale bench".

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
    """Returns whether an error comes from writing to an open stream, not from opening a file."""
    return error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO)


def complain_of_output(program: str, error: OSError) -> None:
    """Prints that standard output cannot be written, and redirects it to the null device.

    Without the redirection Python would fail again on the rest of its buffer at exit.

    Args:
        program: The start of the line, such as "tfscale bench".
        error: What writing to standard output raised.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    complain(program, f"standard output could not be written: {error.strerror}.")
