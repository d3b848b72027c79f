"""Which process prints progress and writes files."""

from __future__ import annotations

import tensorflow as tf

from strategies.arguments import strategy_of


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process shows progress and writes files; exactly one of a job does.

    Args:
        strategy: The strategy that this process trains under.

    Raises:
        ValueError: If `strategy` is not a strategy.

    Example:
        >>> is_chief(strategies.one_device_strategy())
        True
    """
    resolver = strategy_of("strategy", strategy).cluster_resolver
    if resolver is None or not resolver.cluster_spec().jobs:
        return True
    if resolver.task_type == "worker":
        return "chief" not in resolver.cluster_spec().jobs and resolver.task_id == 0
    return bool(resolver.task_type == "chief")
