"""Strategies of tf.distribute under which Keras `fit` gives single-device results.

    import keras, strategies

    strategy = strategies.mirrored_strategy(num_replicas=2)
    with strategy.scope():
        model = keras.Sequential([...])
        model.compile("adam", "mse")
    model.fit(x, y)                       # matches single-device results

Importing this package imports neither TensorFlow nor Keras and changes nothing. Building a strategy
imports both and patches Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from strategies.cluster.cluster import Cluster
from strategies.tpu.wheels import require_importable_wheels

if TYPE_CHECKING:
    from strategies.automatic import STRATEGIES, auto_strategy, strategy_by_name
    from strategies.cluster.chief import is_chief
    from strategies.mirrored import mirrored_strategy
    from strategies.multi_worker_mirrored import multi_worker_mirrored_strategy
    from strategies.one_device import one_device_strategy
    from strategies.parameter_server import parameter_server_strategy
    from strategies.tpu.strategy import tpu_strategy

_LAZY = {
    "STRATEGIES": "strategies.automatic",
    "auto_strategy": "strategies.automatic",
    "is_chief": "strategies.cluster.chief",
    "mirrored_strategy": "strategies.mirrored",
    "multi_worker_mirrored_strategy": "strategies.multi_worker_mirrored",
    "one_device_strategy": "strategies.one_device",
    "parameter_server_strategy": "strategies.parameter_server",
    "strategy_by_name": "strategies.automatic",
    "tpu_strategy": "strategies.tpu.strategy",
}

__all__ = [
    "STRATEGIES",
    "Cluster",
    "auto_strategy",
    "is_chief",
    "mirrored_strategy",
    "multi_worker_mirrored_strategy",
    "one_device_strategy",
    "parameter_server_strategy",
    "require_importable_wheels",
    "strategy_by_name",
    "tpu_strategy",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_importable_wheels()  # the import below loads TensorFlow
    try:
        module = importlib.import_module(_LAZY[name])
    except (ImportError, AttributeError) as error:
        missing = _missing_symbol(error)
        if not missing:
            raise
        raise RuntimeError(
            "Keras and TensorFlow must be releases that tfscale supports. Received: releases "
            f"without {missing}. Install releases that this tfscale supports (`pip install "
            "--upgrade tfscale` pins them), or build the strategy with tf.distribute and train "
            "without the fixes."
        ) from error
    return getattr(module, name)


def _missing_symbol(error: ImportError | AttributeError) -> str:
    """Returns what the installed Keras or TensorFlow lacks; "" if it is something else.

    A library that is not installed is something else: that error says what to install.
    """
    if isinstance(error, ImportError):
        module = error.name or ""
        symbol = getattr(error, "name_from", None)  # Python 3.12
    else:
        module, symbol = getattr(error.obj, "__name__", ""), error.name
    package, _, inner = module.partition(".")
    if package not in ("keras", "tensorflow") or not (inner or symbol):
        return ""
    return f"{module}.{symbol}" if symbol else module


def __dir__() -> list[str]:
    return __all__
