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

from tfscale.shadowing import require_own_package

require_own_package("strategies")
require_own_package("recipes")

# That of `typing`. Its import would take most of the time of this one, in which Ctrl-C still prints
# a traceback of a command.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strategies.extension import (
        all_gather,
        local_gradients,
        mean_over_replicas,
        ratio_over_replicas,
        sum_over_replicas,
    )
    from tfscale import (
        callbacks,
        data,
        explain,
        launch,
        metrics,
        monitor,
        optimizers,
        parallel,
        plan,
        schedules,
        shrink,
        sweep,
    )
    from tfscale.broadcasting import broadcast, broadcast_value
    from tfscale.find.batch_size import FoundBatchSize, find_batch_size
    from tfscale.find.found_rate import FoundRate
    from tfscale.find.learning_rate import find_learning_rate
    from tfscale.precision import set_precision
    from tfscale.preparation import prepare
    from tfscale.recomputation import recompute

_LAZY = {
    "FoundBatchSize": "tfscale.find.batch_size",
    "FoundRate": "tfscale.find.found_rate",
    "all_gather": "strategies.extension",
    "broadcast": "tfscale.broadcasting",
    "broadcast_value": "tfscale.broadcasting",
    "find_batch_size": "tfscale.find.batch_size",
    "find_learning_rate": "tfscale.find.learning_rate",
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
    "explain": "tfscale.explain",
    "launch": "tfscale.launch",
    "metrics": "tfscale.metrics",
    "monitor": "tfscale.monitor",
    "optimizers": "tfscale.optimizers",
    "parallel": "tfscale.parallel",
    "plan": "tfscale.plan",
    "schedules": "tfscale.schedules",
    "shrink": "tfscale.shrink",
    "sweep": "tfscale.sweep",
}

__all__ = [
    "FoundBatchSize",
    "FoundRate",
    "all_gather",
    "broadcast",
    "broadcast_value",
    "callbacks",
    "data",
    "explain",
    "find_batch_size",
    "find_learning_rate",
    "launch",
    "local_gradients",
    "mean_over_replicas",
    "metrics",
    "monitor",
    "optimizers",
    "parallel",
    "plan",
    "prepare",
    "ratio_over_replicas",
    "recompute",
    "schedules",
    "set_precision",
    "shrink",
    "sum_over_replicas",
    "sweep",
]


def __getattr__(name: str) -> Any:
    import importlib

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
