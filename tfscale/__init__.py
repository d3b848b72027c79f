"""tfscale: Keras training on many replicas that matches single-device results.

    import keras, strategies, tfscale

    strategy = strategies.mirrored_strategy(num_replicas=2)
    train = tfscale.data.input_pipeline((images, labels), strategy, global_batch_size=256)
    with strategy.scope():
        model = keras.Sequential([...])
        model.compile("adam", "mse")
    model.fit(train, epochs=10)

Importing this package imports neither TensorFlow nor Keras and changes nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tfscale.shadowing import require_own_package

require_own_package("strategies")
require_own_package("recipes")

if TYPE_CHECKING:
    from strategies.extension import (
        all_gather,
        local_gradients,
        mean_over_replicas,
        ratio_over_replicas,
        sum_over_replicas,
    )
    from tfscale import callbacks, data, launch, metrics, optimizers, parallel, plan, schedules
    from tfscale.broadcasting import broadcast, broadcast_value
    from tfscale.precision import set_precision
    from tfscale.preparation import prepare
    from tfscale.recomputation import recompute

_LAZY = {
    "all_gather": "strategies.extension",
    "broadcast": "tfscale.broadcasting",
    "broadcast_value": "tfscale.broadcasting",
    "local_gradients": "strategies.extension",
    "mean_over_replicas": "strategies.extension",
    "prepare": "tfscale.preparation",
    "ratio_over_replicas": "strategies.extension",
    "recompute": "tfscale.recomputation",
    "set_precision": "tfscale.precision",
    "sum_over_replicas": "strategies.extension",
}
_LAZY_MODULES = {
    "callbacks": "tfscale.callbacks",
    "data": "tfscale.data",
    "launch": "tfscale.launch",
    "metrics": "tfscale.metrics",
    "optimizers": "tfscale.optimizers",
    "parallel": "tfscale.parallel",
    "plan": "tfscale.plan",
    "schedules": "tfscale.schedules",
}

__all__ = [
    "all_gather",
    "broadcast",
    "broadcast_value",
    "callbacks",
    "data",
    "launch",
    "local_gradients",
    "mean_over_replicas",
    "metrics",
    "optimizers",
    "parallel",
    "plan",
    "prepare",
    "ratio_over_replicas",
    "recompute",
    "schedules",
    "set_precision",
    "sum_over_replicas",
]


def __getattr__(name: str) -> Any:
    if name in (*_LAZY, *_LAZY_MODULES):
        from strategies import require_importable_wheels

        require_importable_wheels()  # what follows imports TensorFlow
    if name in _LAZY_MODULES:
        return importlib.import_module(_LAZY_MODULES[name])
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
