"""Which rules a table in parts obeys as a whole table does: those that look at one row at a time.

Rows are spread over variables, so a rule that is applied to each variable sees only some of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfscale.optimizers.lars import LARS

# Six rows of all lengths, each pair of peers in different parts.
_TABLE = np.outer(np.logspace(-2, 3, 6), [0.5, -1.0, 2.0, 0.25]).astype(np.float32)
_TABLE += np.random.default_rng(0).normal(size=_TABLE.shape).astype(np.float32) / 8
_PARTS = (slice(0, None, 2), slice(1, None, 2))

_WHOLE_VARIABLES = (LARS, keras.optimizers.Lamb, keras.optimizers.Adafactor)


def check_constraint(constraint: Callable[[Any], Any] | None) -> None:
    """Refuses a constraint under which a row depends on other rows; it is tried out.

    Raises:
        ValueError: If it does.

    Example:
        >>> check_constraint(keras.constraints.MaxNorm(2.0, axis=1))
    """
    if constraint is None:
        return
    together = np.asarray(constraint(keras.ops.convert_to_tensor(_TABLE)))
    for part in _PARTS:
        alone = np.asarray(constraint(keras.ops.convert_to_tensor(_TABLE[part])))
        if not np.allclose(together[part], alone, rtol=1e-4):
            raise ValueError(
                "`embeddings_constraint` must treat each row by itself, for the others may lie in "
                f"another shard. Received: embeddings_constraint={_named(constraint)}. Norms of "
                "rows are those of axis=1: keras.constraints.MaxNorm(2.0, axis=1)."
            )


def check_regularizer(regularizer: Callable[[Any], Any] | None) -> None:
    """Refuses a regularizer that is no sum over rows; it is tried out.

    Raises:
        ValueError: If it is none.

    Example:
        >>> check_regularizer(keras.regularizers.L2(0.1))
    """
    if regularizer is None:
        return
    together = float(regularizer(keras.ops.convert_to_tensor(_TABLE)))
    alone = sum(float(regularizer(keras.ops.convert_to_tensor(_TABLE[part]))) for part in _PARTS)
    if not np.isclose(together, alone, rtol=1e-4):
        raise ValueError(
            "`embeddings_regularizer` must be a sum over rows, for it is called for each shard. "
            f"Received: embeddings_regularizer={_named(regularizer)}. Use L1 or L2."
        )


def refuse_rule_of_whole_variables(optimizer: Any) -> None:
    """Refuses an optimizer that measures each variable as a whole.

    Args:
        optimizer: A Keras optimizer, or None.

    Raises:
        ValueError: If it does.

    Example:
        >>> refuse_rule_of_whole_variables(keras.optimizers.Adam(global_clipnorm=1.0))
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if getattr(optimizer, "clipnorm", None):
        raise ValueError(
            "`clipnorm` must not be set beside a ShardedEmbedding: it clips each variable by "
            f"itself, and a shard is one. Received: clipnorm={optimizer.clipnorm!r}. Use "
            "global_clipnorm, which clips by the norm of all gradients."
        )
    if isinstance(optimizer, _WHOLE_VARIABLES):
        raise ValueError(
            "`optimizer` must not measure whole variables beside a ShardedEmbedding, whose shards "
            f"are variables of their own. Received: optimizer={type(optimizer).__name__}. Use one "
            "that treats elements alone: SGD, Adagrad, Adam, AdamW, RMSprop, Ftrl, Lion."
        )


def _named(rule: Any) -> str:
    config = rule.get_config() if hasattr(rule, "get_config") else ""
    return f"{getattr(rule, '__name__', type(rule).__name__)} {config}".strip()
