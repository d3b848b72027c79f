"""What measures steps needs workers that take them together."""

from __future__ import annotations

from typing import Any

from strategies.extension import is_asynchronous, refuse_model_outside


def require_synchronous(model: Any, user: str, cure: str = "") -> None:
    """Checks that a model is trained by synchronous workers under a tfscale strategy.

    Args:
        model: A Keras model, as training begins.
        user: The callback that measures it, such as "Monitor".
        cure: What to do under parameter servers, as a sentence; "" names another strategy.

    Raises:
        ValueError: If it is not.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> require_synchronous(model, "Monitor")
    """
    refuse_model_outside(model, user)
    strategy = model.distribute_strategy
    if is_asynchronous(strategy):
        raise ValueError(
            f"`model` must be trained by synchronous workers to use {user}. Received: "
            f"{type(strategy).__name__}. {cure or f'Use another strategy, or leave {user} out.'}"
        )
