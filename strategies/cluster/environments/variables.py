"""Integers from an environment mapping, with an error that names the variable."""

from __future__ import annotations

from collections.abc import Mapping


def integer_variable(environ: Mapping[str, str], name: str, *, minimum: int, cure: str) -> int:
    """Returns the variable `name` as an integer.

    Args:
        environ: The environment.
        name: The variable. Unset and not an integer are both errors.
        minimum: The smallest value accepted.
        cure: The sentence that ends the error.

    Raises:
        ValueError: If `name` does not hold an integer of at least `minimum`.
    """
    text = environ.get(name)
    # int() would take "1_000", " 7 " and digits of other scripts, which no engine writes.
    if text is not None and text.isascii() and text.isdecimal() and int(text) >= minimum:
        return int(text)
    raise ValueError(
        f"`{name}` must be an integer of at least {minimum}. Received: {name}={text!r}. {cure}"
    )
