"""What a training run does: its operations, and where its time went.

    flops = tfscale.monitor.training_flops(model, (x[:32], y[:32]))
    flops.total

The callback `tfscale.callbacks.Monitor` measures a run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfscale.monitor.collectives import Collectives, training_collectives
    from tfscale.monitor.flops import Flops, training_flops
    from tfscale.monitor.joules import Energy, energy
    from tfscale.monitor.peak import measured_peak
    from tfscale.monitor.time_kinds import Goodput, goodput
    from tfscale.monitor.trackers import mlflow, tensorboard, wandb

# Lazy, because reading the files of a run needs no TensorFlow.
_LAZY = {
    "Collectives": "tfscale.monitor.collectives",
    "Energy": "tfscale.monitor.joules",
    "Flops": "tfscale.monitor.flops",
    "Goodput": "tfscale.monitor.time_kinds",
    "energy": "tfscale.monitor.joules",
    "goodput": "tfscale.monitor.time_kinds",
    "mlflow": "tfscale.monitor.trackers",
    "measured_peak": "tfscale.monitor.peak",
    "tensorboard": "tfscale.monitor.trackers",
    "wandb": "tfscale.monitor.trackers",
    "training_collectives": "tfscale.monitor.collectives",
    "training_flops": "tfscale.monitor.flops",
}

__all__ = [
    "Collectives",
    "Energy",
    "Flops",
    "Goodput",
    "energy",
    "goodput",
    "measured_peak",
    "mlflow",
    "tensorboard",
    "training_collectives",
    "training_flops",
    "wandb",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
