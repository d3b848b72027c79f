"""Optimizers: Keras's by name, and LARS, which Keras lacks.

    optimizer = tfscale.optimizers.optimizer_by_name("adamw", 1e-3, clip_norm=1.0)
    optimizer = tfscale.optimizers.LARS(3.2, weight_decay=1e-4)

Import this package before you load a compiled model with LARS from a file.
"""

from tfscale.optimizers.by_name import OPTIMIZERS, optimizer_by_name
from tfscale.optimizers.lars import LARS

__all__ = ["LARS", "OPTIMIZERS", "optimizer_by_name"]
