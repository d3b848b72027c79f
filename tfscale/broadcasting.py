"""Copies the chief's model, or a value from the chief, to all workers."""

from __future__ import annotations

import json
from typing import Any

from strategies.extension import broadcast_state, exchange, is_multi_worker


def broadcast(model: Any) -> None:
    """Copies the chief's weights, optimizer state and random seeds to every worker.

    Use it where only the chief loads or restores a model, as with Horovod. Every worker must call
    it at the same place, after the chief has loaded and before `fit`. (`fit` raises an error if the
    workers' models differ.) A constant learning rate is part of the optimizer's state. A schedule
    is not, and must be the same on every worker. Metrics are not sent: `fit` and `evaluate` reset
    them.

    In a single process this does nothing.

    Args:
        model: A built Keras model; compiled, if its optimizer is to be sent too.

    Raises:
        ValueError: If the model is not built, or its variables differ between workers in number,
            shape or type.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> if strategies.is_chief(strategy):
        ...     model.set_weights([np.array([[1.0], [2.0]]), np.array([0.5])])
        >>> broadcast(model)
        >>> model.get_weights()[1].tolist()
        [0.5]
    """
    broadcast_state(model)


def broadcast_value(strategy: Any, value: Any) -> Any:
    """Returns the first worker's value on every worker.

    For numbers that hosts may round differently, such as a learning rate computed from the data.
    Every worker calls it at the same place. The value is sent as JSON, which preserves floats
    exactly and turns tuples into lists.

    Args:
        strategy: The strategy to train under.
        value: What JSON can write: numbers, strings, lists and dictionaries of these. Only the
            first worker's counts.

    Raises:
        ValueError: If JSON cannot write `value`.
        RuntimeError: If another worker makes another call instead, or has failed.
        TimeoutError: If a worker does not make the call.

    Example:
        >>> import strategies
        >>> broadcast_value(strategies.one_device_strategy(), {"rate": 0.1})
        {'rate': 0.1}
    """
    try:
        written = json.dumps(value)
    except TypeError as error:
        raise ValueError(
            f"`value` must be what JSON can write. Received: value={value!r}. Pass numbers, "
            "strings, or lists and dictionaries of these."
        ) from error
    if is_multi_worker(strategy):
        written = exchange(strategy, "broadcast_value()", written)[0]
    return json.loads(written)
