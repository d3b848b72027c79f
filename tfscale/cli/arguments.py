"""Flags and argument types that several commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, TypeVar

from strategies.extension import (
    COUNT,
    COUNT_OR_ZERO,
    SECONDS,
    SECONDS_OR_ZERO,
    Number,
    NumberRule,
    integers,
)
from tfscale.cli.sizes import parsed_bytes

Value = TypeVar("Value")


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`, for programs that parse the output of a command."""
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


def add_switch(parser: Any, flag: str, help: str) -> None:
    """Adds a flag that is on or off, and off by default, to a parser or a group. A later one wins.

    `--flag` and `--flag=true` switch it on, `--flag=false` off: what a job file says can be taken
    back on the command line.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_switch(parser, "--detach", "run in the background")
        >>> parser.parse_args(["--detach", "--detach=false"]).detach
        False
    """
    parser.add_argument(
        flag, type=_on_or_off, nargs="?", const=True, default=False, metavar="true|false", help=help
    )


def _on_or_off(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false. Received: {text!r}.")
    return text == "true"


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `target`, the function that builds the user's model."""
    parser.add_argument(
        "target",
        metavar="MODULE:FUNCTION",
        type=function_name,
        help="your model: build() in mine.py is mine:build; the current directory is importable",
    )


def add_seed_flag(parser: argparse.ArgumentParser, default: int | None = 0) -> None:
    """Adds `--seed`, of what the user's function draws.

    Args:
        parser: The parser of a command that calls the user's function.
        default: None for a command that sets 0 itself, when it knows that the flag applies.
    """
    parser.add_argument(
        "--seed",
        type=seed,
        default=default,
        metavar="N",
        help="seed of Keras, NumPy and Python, set before FUNCTION is called (default: 0)",
    )


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


def number_type(rule: NumberRule[Number]) -> Callable[[str], Number]:
    """Returns the `type` of an argument whose numbers keep a rule.

    Example:
        >>> from tfscale.cli import integers
        >>> number_type(integers(at_least=2))("7")
        7
    """
    return _argument_type(rule.parse)


def _argument_type(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    def parsed(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:  # argparse shows the text of its own error only
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


count = number_type(COUNT)
"""Takes a positive integer."""
count_or_zero = number_type(COUNT_OR_ZERO)
"""Takes an integer, at least 0."""
seconds = number_type(SECONDS)
"""Takes a positive, finite number of seconds."""
seconds_or_zero = number_type(SECONDS_OR_ZERO)
"""Takes a finite number of seconds, at least 0."""
size = _argument_type(parsed_bytes)
"""Takes a size with its unit, such as 16GiB, in bytes."""
seed = number_type(integers(0, below=2**32))
"""Takes a seed that Keras, NumPy and Python accept."""
