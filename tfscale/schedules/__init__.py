"""Learning-rate schedules: Keras's own, joined, warmed up, and the ones Keras lacks.

    cosine = keras.optimizers.schedules.CosineDecay(1e-3, decay_steps=10_000)
    rate = tfscale.schedules.warmup(cosine, warmup_steps=500)
    model.compile(keras.optimizers.AdamW(rate), "mse")

A schedule here is a `keras.optimizers.schedules.LearningRateSchedule`, computed in float64. A model
file names it; to load that file compiled, import this package first.
"""

from tfscale.schedules.adjustable_schedule import Adjustable, adjustable, adjustable_schedules
from tfscale.schedules.batch_scaling import scale_learning_rate
from tfscale.schedules.by_name import SCHEDULES, schedule_by_name
from tfscale.schedules.float64_schedule import Float64Schedule, rate_at
from tfscale.schedules.joined_schedule import Joined, join
from tfscale.schedules.lines import (
    PiecewiseLinear,
    constant,
    linear_decay,
    one_cycle,
    piecewise_linear,
)
from tfscale.schedules.square_root import InverseSquareRootDecay, inverse_square_root_decay
from tfscale.schedules.stable_decay import warmup_stable_decay
from tfscale.schedules.warmup_schedule import Warmup, warmup

__all__ = [
    "SCHEDULES",
    "Adjustable",
    "Float64Schedule",
    "InverseSquareRootDecay",
    "Joined",
    "PiecewiseLinear",
    "Warmup",
    "adjustable",
    "adjustable_schedules",
    "constant",
    "inverse_square_root_decay",
    "join",
    "linear_decay",
    "one_cycle",
    "piecewise_linear",
    "rate_at",
    "scale_learning_rate",
    "schedule_by_name",
    "warmup",
    "warmup_stable_decay",
]
