"""Checks that constraints, regularizers and optimizers treat rows of a sharded table separately.

The rows are distributed over several variables, so a rule that is applied to each variable sees
only some of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfscale.optimizers.lars import LARS

# Six rows of different lengths. Adjacent rows are in different parts.
_TABLE = np.outer(np.logspace(-2, 3, 6), [0.5, -1.0, 2.0, 0.25]).astype(np.float32)
_TABLE += np.random.default_rng(0).normal(size=_TABLE.shape).astype(np.float32) / 8
_PARTS = (slice(0, None, 2), slice(1, None, 2))

_WHOLE_VARIABLES = (LARS, keras.optimizers.Lamb, keras.optimizers.Adafactor)


def check_constraint(constraint: Callable[[Any], Any] | None) -> None:
    """Checks by a trial that a constraint treats each row independently.

    Raises:
        ValueError: If the result for a row depends on other rows.

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
                "`embeddings_constraint` must treat each row independently, because other rows may "
                f"be in another shard. Received: embeddings_constraint={_named(constraint)}. Use "
                "norms over axis=1: keras.constraints.MaxNorm(2.0, axis=1)."
            )


def check_regularizer(regularizer: Callable[[Any], Any] | None) -> None:
    """Checks by a trial that a regularizer is a sum over rows.

    Raises:
        ValueError: If it is not.

    Example:
        >>> check_regularizer(keras.regularizers.L2(0.1))
    """
    if regularizer is None:
        return
    together = float(regularizer(keras.ops.convert_to_tensor(_TABLE)))
    alone = sum(float(regularizer(keras.ops.convert_to_tensor(_TABLE[part]))) for part in _PARTS)
    if not np.isclose(together, alone, rtol=1e-4):
        raise ValueError(
            "`embeddings_regularizer` must be a sum over rows, because it is called per shard. "
            f"Received: embeddings_regularizer={_named(regularizer)}. Use L1 or L2."
        )


def refuse_rule_of_whole_variables(optimizer: Any) -> None:
    """Checks that an optimizer does not depend on norms of whole variables.

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
            "`clipnorm` must not be set with a ShardedEmbedding, because it clips each shard "
            f"separately. Received: clipnorm={optimizer.clipnorm!r}. Use global_clipnorm, which "
            "clips by the norm of all gradients."
        )
    if isinstance(optimizer, _WHOLE_VARIABLES):
        raise ValueError(
            "`optimizer` must not use norms of whole variables with a ShardedEmbedding, whose "
            f"shards are separate variables. Received: optimizer={type(optimizer).__name__}. Use "
            "an element-wise optimizer: SGD, Adagrad, Adam, AdamW, RMSprop, Ftrl, Lion."
        )


def _named(rule: Any) -> str:
    config = rule.get_config() if hasattr(rule, "get_config") else ""
    return f"{getattr(rule, '__name__', type(rule).__name__)} {config}".strip()
