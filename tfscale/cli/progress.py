"""Progress of a command that takes minutes: lines on standard error, and a clock in a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from tfscale.cli.errors import complain


@contextlib.contextmanager
def progress(program: str) -> Iterator[Callable[[str], None]]:
    """Shows what a command does while it takes its time.

    In a terminal a clock below the lines counts the seconds since the last line, so that a long
    phase differs from a hang. Elsewhere (a file, a pipe, the launcher) the lines are everything,
    without escape codes.

    Args:
        program: The start of each line, such as "tfscale verify".

    Yields:
        A function that prints a line of progress. Print the result after the end of the context.

    Example:
        >>> with progress("tfscale verify") as say:
        ...     say("one device: 20 steps of training")
    """
    if not _is_terminal():
        yield lambda line: complain(program, line)
        return
    # Here: the help and programs without a terminal do not need rich.
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True, markup=False, highlight=False, emoji=False),
        transient=True,
        refresh_per_second=2,
        # A redirected standard output keeps what is printed to it.
        redirect_stdout=sys.stdout.isatty(),
    ) as clock:
        task = clock.add_task("")

        def say(line: str) -> None:
            complain(program, line)
            clock.reset(task)

        yield say


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
