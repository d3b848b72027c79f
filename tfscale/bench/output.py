"""Runs a benchmark and prints its outcome as the flags say."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tfscale.bench.outcome import Outcome
from tfscale.cli.arguments import add_json_flag
from tfscale.cli.errors import complain

if TYPE_CHECKING:
    from tfscale.bench.against import Comparison

Say = Callable[[str], None]
"""Prints a line of progress."""
Run = Callable[[argparse.Namespace, Say], Outcome]
"""Takes the measurements that the flags describe."""


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that all kinds of benchmarks have in common."""
    add_json_flag(parser)
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write one HTML page with the table and pictures",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="compare with an earlier run: a file that --json has printed",
    )


def measured_and_printed(
    program: str,
    run: Run,
    arguments: argparse.Namespace,
    *,
    kind: str = "step",
    subject: Callable[[argparse.Namespace], str] | None = None,
) -> int:
    """Takes measurements and prints them. Progress is printed on standard error.

    Args:
        program: The start of progress lines, such as "tfscale bench".
        run: Takes the measurements.
        arguments: Parsed flags, with those of `add_output_arguments`.
        kind: The kind that `run` measures.
        subject: Returns the subject of the outcome, so that a file about another one is refused
            before minutes of measurements and not after them.

    Returns:
        The exit status: 1 if a measurement failed, 2 for wrong usage.
    """
    # Here: the help does not need these.
    from tfscale.bench.against import compared, read_earlier, refuse_other_subject
    from tfscale.bench.contestant import Failed
    from tfscale.report.page import refuse_other_files

    # Lines only: a clock that is redrawn takes time from the processes that are timed.
    def say(line: str) -> None:
        complain(program, line)

    try:
        if arguments.html is not None:
            refuse_other_files(arguments.html)
        earlier = None
        if arguments.against is not None:
            earlier = read_earlier(arguments.against)
            refuse_other_subject(earlier, kind, subject(arguments) if subject else None)
        outcome = run(arguments, say)
        comparison = None if earlier is None else compared(outcome, earlier)
    except Failed as failure:
        say(str(failure))
        return 2 if failure.is_wrong_usage else 1
    except ValueError as error:
        say(str(error))
        return 2
    print(_printed(outcome, comparison, arguments.json), flush=True)
    if arguments.html is not None:
        return _write_page(outcome, comparison, arguments.html, say)
    return 0


def _printed(outcome: Outcome, comparison: Comparison | None, is_json: bool) -> str:
    from tfscale.bench import against, table

    if is_json:
        values = outcome.to_json()
        if comparison is not None:
            values["against"] = comparison.to_json()
        return json.dumps(values)
    texts = [table.as_text(outcome)]
    if comparison is not None:
        texts.append(against.as_text(comparison))
    return "\n\n".join(texts)


def _write_page(outcome: Outcome, comparison: Comparison | None, path: Path, say: Say) -> int:
    from tfscale.bench.page import render
    from tfscale.files.output_files import write_whole

    try:
        write_whole(path, render(outcome, comparison))
    except OSError as error:
        say(str(error))
        return 2
    say(f"page: {path}")
    return 0
