"""Optimizers: Keras's by name, LARS, which Keras lacks, and slots in bfloat16.

    optimizer = tfscale.optimizers.optimizer_by_name("adamw", 1e-3, clip_norm=1.0)
    optimizer = tfscale.optimizers.LARS(3.2, weight_decay=1e-4)
    optimizer = tfscale.optimizers.with_state_dtype(keras.optimizers.Adam(1e-3), "bfloat16")

Import this package before you load a compiled model with LARS from a file.
"""

from tfscale.optimizers.by_name import OPTIMIZERS, optimizer_by_name
from tfscale.optimizers.lars import LARS
from tfscale.optimizers.state_dtype import with_state_dtype

__all__ = ["LARS", "OPTIMIZERS", "optimizer_by_name", "with_state_dtype"]
