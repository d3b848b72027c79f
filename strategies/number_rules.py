"""Rules for numbers in text: command lines, recipe flags, environment variables.

    workers = integers(at_least=1)
    workers.parse("8")          # 8
    workers.parse("1_000")      # ValueError: must be a positive integer. Received: '1_000'. ...

The caller adds what it knows, such as the name of the variable, and keeps the rest of the message.
`strategies.arguments` checks Python numbers, with the same wording.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Number = TypeVar("Number", int, float)
"""The type of the numbers of a rule."""

LARGEST_COUNT = 2**63 - 1
"""Counts are int64 in TensorFlow."""

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True)
class NumberRule(Generic[Number]):
    """Which numbers are accepted.

    Attributes:
        words: The rule, after "must be".
        example: A text that satisfies the rule.
        read: Reads a number from text, or raises a ValueError.
        accepts: Returns whether a number satisfies the rule.
    """

    words: str
    example: str
    read: Callable[[str], Number]
    accepts: Callable[[Number], bool]

    def value(self, text: str) -> Number | None:
        """Returns the number in a text, or None if it does not satisfy the rule."""
        try:
            number = self.read(text)
        except ValueError:
            return None
        return number if self.accepts(number) else None

    def parse(self, text: str) -> Number:
        """Returns the number in a text.

        Raises:
            ValueError: If the text does not satisfy the rule. The message has no subject: argparse
                and absl write the flag before it.
        """
        number = self.value(text)
        if number is None:
            raise ValueError(f"must be {self.words}. Received: {text!r}. Example: {self.example}.")
        return number


def integers(at_least: int = 1, below: int = LARGEST_COUNT + 1) -> NumberRule[int]:
    """Returns the rule of integers in [at_least, below), written in decimal.

    Example:
        >>> integers(0, below=2**31).words
        'an integer in [0, 2**31)'
    """
    if below <= LARGEST_COUNT:
        words = f"an integer in [{at_least}, {_power_of_two(below)})"
    elif at_least == 1:
        words = "a positive integer"
    else:
        words = f"an integer, at least {at_least}"
    return NumberRule(words, str(at_least), _integer, lambda number: at_least <= number < below)


def floats(words: str, example: str, accepts: Callable[[float], bool]) -> NumberRule[float]:
    """Returns a rule of finite numbers.

    Args:
        words: The rule, after "must be".
        example: A text that satisfies the rule.
        accepts: Returns whether a finite number satisfies it.

    Example:
        >>> floats("in [0, 1)", "0.1", lambda part: 0 <= part < 1).parse(".25")
        0.25
    """
    return NumberRule(words, example, _float, accepts)


def _integer(text: str) -> int:
    # int() would accept "1_000", " 7 " and the digits of other scripts.
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    # float() would accept "1_000", " 7 ", "nan" and the digits of other scripts.
    if not _FLOAT.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def _power_of_two(number: int) -> str:
    is_power = number > 1024 and number & (number - 1) == 0
    return f"2**{number.bit_length() - 1}" if is_power else str(number)


COUNT = integers(at_least=1)
"""A positive integer."""
COUNT_OR_ZERO = integers(at_least=0)
"""An integer, at least 0."""
NOT_NEGATIVE = floats("finite and at least 0", "0.1", lambda number: number >= 0)
"""A finite number, at least 0."""
POSITIVE = floats("positive and finite", "0.01", lambda number: number > 0)
"""A positive, finite number."""
SECONDS = floats("a positive, finite number of seconds", "60", lambda seconds: seconds > 0)
"""A positive, finite number of seconds."""
SECONDS_OR_ZERO = floats(
    "a finite number of seconds, at least 0", "10", lambda seconds: seconds >= 0
)
"""A finite number of seconds, at least 0."""
