"""Pruning: weights that become zero during `fit`, and stay zero."""

from tfscale.shrink.pruning.keep_zeros import KeepZeros
from tfscale.shrink.pruning.prune import SCOPES, Prune
from tfscale.shrink.pruning.schedules import (
    ConstantSparsity,
    CubicSparsity,
    OneShot,
    SparsitySchedule,
)

__all__ = [
    "SCOPES",
    "ConstantSparsity",
    "CubicSparsity",
    "KeepZeros",
    "OneShot",
    "Prune",
    "SparsitySchedule",
]
