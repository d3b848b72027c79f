"""Flags and argument types that several commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`, for programs that parse the output of a command."""
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


def function_name(text: str) -> str:
    """Checks that `text` is MODULE:FUNCTION and returns it.

    Raises:
        argparse.ArgumentTypeError: If `text` is something else.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", text):
        raise argparse.ArgumentTypeError(
            f"must be MODULE:FUNCTION. Received: {text!r}. Example: mine:build for build() in "
            "mine.py"
        )
    return text


def at_least(least: int) -> Callable[[str], int]:
    """Returns what takes an integer of `least` or more.

    Args:
        least: 0 or more.

    Example:
        >>> at_least(2)("7")
        7
    """

    def integer(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"must be an integer, at least {least}. Received: {text!r}"
            )
        return int(text)

    return integer


def seconds(text: str) -> float:
    """Takes a positive, finite number of seconds.

    Raises:
        argparse.ArgumentTypeError: If `text` is something else.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(
            f"must be a positive, finite number of seconds. Received: {text!r}"
        )
    return number
