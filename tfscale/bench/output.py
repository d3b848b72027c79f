"""Runs a benchmark and prints its outcome as the flags say."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from tfscale.bench.outcome import Outcome
from tfscale.cli.arguments import add_json_flag
from tfscale.cli.errors import complain

Say = Callable[[str], None]
"""Prints a line of progress."""
Run = Callable[[argparse.Namespace, Say], Outcome]
"""Takes the measurements that the flags describe."""


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that all kinds of benchmarks have in common."""
    add_json_flag(parser)


def measured_and_printed(program: str, run: Run, arguments: argparse.Namespace) -> int:
    """Takes measurements and prints them. Progress is printed on standard error.

    Args:
        program: The start of progress lines, such as "tfscale bench".
        run: Takes the measurements.
        arguments: Parsed flags, with those of `add_output_arguments`.

    Returns:
        The exit status: 1 if a measurement failed, 2 for wrong usage.
    """
    from tfscale.bench.contestant import Failed  # Here: the help does not need it.

    # Lines only: a clock that is redrawn takes time from the processes that are timed.
    def say(line: str) -> None:
        complain(program, line)

    from tfscale.bench.table import as_text

    try:
        outcome = run(arguments, say)
    except Failed as failure:
        say(str(failure))
        return 2 if failure.is_wrong_usage else 1
    except ValueError as error:
        say(str(error))
        return 2
    print(json.dumps(outcome.to_json()) if arguments.json else as_text(outcome), flush=True)
    return 0
