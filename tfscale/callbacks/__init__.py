"""Callbacks for `fit` that work on many replicas.

model.fit(train, callbacks=[tfscale.callbacks.ReduceOnPlateau("val_loss", patience=5)])
"""

from tfscale.callbacks.checkpoint import Checkpoint
from tfscale.callbacks.input_wait import InputWait
from tfscale.callbacks.local_updates import LocalUpdates
from tfscale.callbacks.microbatches import Microbatches
from tfscale.callbacks.monitor import Monitor
from tfscale.callbacks.plateau import ReduceOnPlateau
from tfscale.callbacks.report_trial import ReportTrial
from tfscale.callbacks.stability import Stability, StabilityEvent
from tfscale.callbacks.stop_at import Reached, StopAt
from tfscale.callbacks.watchdog import Watchdog
from tfscale.profile.recording import Profile

__all__ = [
    "Checkpoint",
    "InputWait",
    "LocalUpdates",
    "Microbatches",
    "Monitor",
    "Profile",
    "Reached",
    "ReduceOnPlateau",
    "ReportTrial",
    "Stability",
    "StabilityEvent",
    "StopAt",
    "Watchdog",
]
