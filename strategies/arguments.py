"""Checks of arguments: each returns the value as plain Python, or raises a ValueError.

    whole_number("warmup_steps", 500)                  # 500
    number("value", "60")                              # ValueError: `value` must be a finite ...
    one_of("mode", "median", ("min", "max"))           # ValueError: `mode` must be one of min, max.

Any wrong value gives the same error: a string instead of a number, an array, an integer too large
for a float. A boolean is not a number here, and a number is not a boolean.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from strategies.number_rules import LARGEST_COUNT, integers

SHARD_CURE = "1 shards the slots of optimizers, 2 also gradients, 3 also parameters."


def whole_number(
    name: str,
    value: Any,
    *,
    at_least: int = 1,
    below: int = LARGEST_COUNT + 1,
    cure: str = "Pass an int.",
) -> int:
    """Returns an integer, such as a count of steps or of examples, as a Python int.

    Args:
        name: The name of the argument, for the message.
        value: The integer; a NumPy integer is accepted.
        at_least: The smallest integer allowed.
        below: The smallest integer above `at_least` that is too large; by default the first that
            does not fit an int64.
        cure: The last sentence of the message.

    Raises:
        ValueError: If `value` is not an integer in [at_least, below).
    """
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is not None and count > LARGEST_COUNT:
        raise ValueError(
            f"`{name}` must be an integer that fits an int64. Received: {name} of "
            f"{count.bit_length()} bits. {cure}"
        )
    rule = integers(at_least, below)
    if count is None or not rule.accepts(count):
        raise ValueError(f"`{name}` must be {rule.words}. Received: {name}={value!r}. {cure}")
    return count


def number(
    name: str,
    value: Any,
    rule: str = "a finite number",
    is_right: Callable[[float], bool] = lambda value: True,
    *,
    cure: str = "Pass a float.",
) -> float:
    """Returns a finite number as a Python float.

    Args:
        name: The name of the argument, for the message.
        value: The number.
        rule: The rule, after "must be".
        is_right: Returns whether a finite number satisfies the rule.
        cure: The last sentence of the message.

    Raises:
        ValueError: If `value` is not a finite number, or does not satisfy the rule.
    """
    try:
        found = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found) or not is_right(found):
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}. {cure}")
    return found


def one_of(name: str, value: Any, accepted: Iterable[str], *, cure: str = "") -> str:
    """Returns one of several names.

    Args:
        name: The name of the argument, for the message.
        value: The name.
        accepted: The accepted names.
        cure: A last sentence of the message, if the list of names is not enough.

    Raises:
        ValueError: If `value` is not one of them.
    """
    known = tuple(accepted)
    if not isinstance(value, str) or value not in known:
        message = f"`{name}` must be one of {', '.join(known)}. Received: {name}={value!r}."
        raise ValueError(f"{message} {cure}".rstrip())
    return value


def truth(name: str, value: Any) -> bool:
    """Returns True or False; a NumPy boolean is accepted.

    Raises:
        ValueError: If `value` is not a boolean.
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise ValueError(
        f"`{name}` must be True or False. Received: {name}={value!r}. Pass one of them."
    )


def text(name: str, value: Any) -> str:
    """Returns a string that is not empty.

    Raises:
        ValueError: If `value` is not a string, or is empty.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(
            f"`{name}` must be a string that is not empty. Received: {name}={value!r}. Pass a str."
        )
    return value


def sequence(name: str, value: Any) -> list[Any]:
    """Returns the items of a list, a tuple or an array.

    Raises:
        ValueError: If `value` is a string or a mapping, or has no items.
    """
    is_sequence = isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1
    if not is_sequence or isinstance(value, (str, bytes, Mapping)):
        raise ValueError(
            f"`{name}` must be a sequence. Received: {name}={value!r}. Pass a list or a tuple."
        )
    return list(value)


def function(name: str, value: Any) -> Any:
    """Returns a function or another callable.

    Raises:
        ValueError: If `value` cannot be called.
    """
    if not callable(value):
        raise ValueError(
            f"`{name}` must be a function. Received: {name}={value!r}. Pass it without calling it."
        )
    return value


def strategy_of(name: str, value: Any) -> Any:
    """Returns a `tf.distribute.Strategy`.

    Raises:
        ValueError: If `value` is not a strategy.
    """
    import tensorflow as tf

    if not isinstance(value, tf.distribute.Strategy):
        raise ValueError(
            f"`{name}` must be a tf.distribute.Strategy. Received: {name}={value!r}. Build one "
            "with a factory, such as strategies.auto_strategy()."
        )
    return value
