"""Numbers from an environment mapping, with an error that names the variable."""

from __future__ import annotations

from collections.abc import Mapping

from strategies.number_rules import SECONDS, Number, NumberRule, integers


def integer_variable(environ: Mapping[str, str], name: str, *, minimum: int, cure: str) -> int:
    """Returns the variable `name` as an integer.

    Args:
        environ: The environment.
        name: The variable. It is an error if it is unset or not an integer.
        minimum: The smallest value accepted.
        cure: The sentence that ends the error.

    Raises:
        ValueError: If the value is not an integer of at least `minimum`.
    """
    return _number(environ.get(name), integers(minimum), name, cure)


def seconds_variable(environ: Mapping[str, str], name: str, *, default: float) -> float:
    """Returns the variable `name` as a number of seconds.

    Args:
        environ: The environment.
        name: The variable.
        default: The seconds where it is unset or blank.

    Raises:
        ValueError: If the value is not a positive, finite number.
    """
    text = environ.get(name, "").strip()
    if not text:
        return default
    return _number(text, SECONDS, name, f"Unset it for {default:g}.")


def _number(text: str | None, rule: NumberRule[Number], name: str, cure: str) -> Number:
    number = None if text is None else rule.value(text)
    if number is None:
        raise ValueError(f"`{name}` must be {rule.words}. Received: {name}={text!r}. {cure}")
    return number
