"""Scales a learning rate to another global batch size."""

from __future__ import annotations

import math

from strategies.extension import one_of, whole_number
from tfscale.schedules.arguments import learning_rate

RULES = ("linear", "sqrt")


def scale_learning_rate(
    base_learning_rate: float,
    global_batch_size: int,
    base_batch_size: int = 256,
    rule: str = "linear",
) -> float:
    """Returns a learning rate scaled from one global batch size to another.

    With k = `global_batch_size / base_batch_size` the rate is `base * k` ("linear", for SGD with
    warm-up) or `base * sqrt(k)` ("sqrt", for LAMB and other adaptive optimizers).

    Args:
        base_learning_rate: A good rate for `base_batch_size`. At least 0.
        global_batch_size: Examples of all replicas in one step. Positive.
        base_batch_size: Examples of one step to which `base_learning_rate` belongs. Positive.
        rule: "linear" or "sqrt".

    Returns:
        The rate, a float.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> scale_learning_rate(0.1, 8192)
        3.2
        >>> scale_learning_rate(0.001, 1024, rule="sqrt")
        0.002

    Source: Goyal et al. 2017, arXiv:1706.02677, section 2.1 (linear); You et al. 2019,
    arXiv:1904.00962 (sqrt).
    """
    base = learning_rate("base_learning_rate", base_learning_rate)
    size = whole_number("global_batch_size", global_batch_size)
    base_size = whole_number("base_batch_size", base_batch_size)
    one_of("rule", rule, RULES)
    ratio = size / base_size
    return base * (ratio if rule == "linear" else math.sqrt(ratio))
