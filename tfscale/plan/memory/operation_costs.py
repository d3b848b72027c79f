"""How long an operation runs, roughly."""

from __future__ import annotations

_START, _BYTES_A_SECOND, _FLOPS_A_SECOND = 2e-6, 6e9, 40e9


def seconds_for(touched: int, flops: int = 0) -> float:
    """Returns how long an operation runs on a core, roughly.

    Only ratios matter, and only for which operations overlap.

    Args:
        touched: Bytes that it reads and writes.
        flops: Floating-point operations.
    """
    return _START + touched / _BYTES_A_SECOND + flops / _FLOPS_A_SECOND
