"""Numbers, times and names as a person reads them."""

from __future__ import annotations

import math
from typing import Any


def number(value: float) -> str:
    """Returns a number with four significant digits; whole numbers in full.

    Example:
        >>> number(0.99444), number(1797), number(0.0000123), number(float("nan"))
        ('0.9944', '1,797', '1.23e-5', 'nan')
    """
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        mantissa, _, power = f"{value:.3e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}"


def seconds(value: float) -> str:
    """Returns a time in the unit that suits it.

    Example:
        >>> seconds(0.01234), seconds(42.31), seconds(192), seconds(7512)
        ('12.3 ms', '42.3 s', '3 min 12 s', '2 h 5 min')
    """
    if value < 0.9995:
        return f"{value * 1000:.3g} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours:,} h {minutes} min"


def percent(share: float | None) -> str:
    """Returns a share in percent with one decimal; "-" for None, a share of nothing."""
    return "-" if share is None else f"{100 * share:.1f}%"


def shortened(text: str, longest: int) -> str:
    """Returns a text of at most `longest` characters; what is cut off becomes an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def name(identifier: str) -> str:
    """Returns an identifier as words: `test_accuracy` becomes "test accuracy"."""
    return identifier.replace("_", " ").strip() or identifier


def setting(value: Any) -> str:
    """Returns the value of a flag as it is written on a command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ", ".join(f"{key}={setting(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(setting(inner) for inner in value)
    return str(value)
