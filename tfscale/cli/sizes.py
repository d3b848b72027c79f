"""Bytes as text: "16GiB" from a flag, "3.2 GiB" in a table."""

from __future__ import annotations

import re

_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def parsed_bytes(text: str) -> int:
    """Returns the bytes of a size with its unit.

    Args:
        text: A positive number and a unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB.

    Raises:
        ValueError: If `text` is something else. The message has no subject, for argparse.

    Example:
        >>> parsed_bytes("16GiB")
        17179869184
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", text.strip())
    size = float(found[1]) * _UNITS.get(found[2], 0) if found else 0.0
    if size < 1:
        raise ValueError(
            f"must be a positive size with its unit: {', '.join(_UNITS)}. Received: {text!r}. "
            "Example: 16GiB."
        )
    return int(size)


def shown_bytes(size: int) -> str:
    """Returns a size in the largest unit that leaves it at least 1, with three digits.

    Example:
        >>> shown_bytes(3 * 2**30 // 2), shown_bytes(0), shown_bytes(1023)
        ('1.50 GiB', '0 B', '1023 B')
    """
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    if unit == "B":
        return f"{size} B"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
