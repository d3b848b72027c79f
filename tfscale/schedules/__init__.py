"""Learning-rate schedules: warm-up, joining, and schedules that Keras does not have.

    cosine = keras.optimizers.schedules.CosineDecay(1e-3, decay_steps=10_000)
    rate = tfscale.schedules.warmup(cosine, warmup_steps=500)
    model.compile(keras.optimizers.AdamW(rate), "mse")

All of them are `keras.optimizers.schedules.LearningRateSchedule`s and compute in float64. Import
this package before you load a compiled model with such a schedule from a file.
"""

from tfscale.schedules.adjustable_schedule import Adjustable, adjustable, adjustable_schedules
from tfscale.schedules.batch_scaling import scale_learning_rate
from tfscale.schedules.by_name import SCHEDULES, schedule_by_name
from tfscale.schedules.float64_schedule import Float64Schedule, rate_at
from tfscale.schedules.inverse_square_root_schedule import (
    InverseSquareRootDecay,
    inverse_square_root_decay,
)
from tfscale.schedules.joined_schedule import Joined, join
from tfscale.schedules.piecewise_linear_schedule import (
    PiecewiseLinear,
    constant,
    linear_decay,
    one_cycle,
    piecewise_linear,
)
from tfscale.schedules.stable_decay_schedule import warmup_stable_decay
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
