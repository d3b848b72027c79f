"""One worker's model for all."""

from __future__ import annotations

from typing import Any

from strategies.keras_support.workers.chief_state import broadcast_state


def broadcast(model: Any) -> None:
    """Gives every worker the chief's model: weights, optimizer state and random states.

    For programs that load or restore on the chief only, as with Horovod. Every worker calls it, at
    the same place, after the chief has loaded and before `fit`, which refuses workers that do not
    hold the same. A constant learning rate is part of the optimizer's state; a schedule is not, and
    must be the same on every worker. Metrics are not sent: `fit` and `evaluate` reset them.

    In one process it changes nothing.

    Args:
        model: A built Keras model; compiled, if its optimizer is to be sent too.

    Raises:
        ValueError: If the model is not built, or has other variables on another worker.

    Example:
        >>> import keras, strategies
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> if strategies.is_chief(strategy):
        ...     model.set_weights([[[1.0], [2.0]], [0.5]])
        >>> broadcast(model)
        >>> model.get_weights()[1].tolist()
        [0.5]
    """
    broadcast_state(model)
