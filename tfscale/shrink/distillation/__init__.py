"""Distillation: a small model learns from the outputs and features of larger ones."""

from tfscale.shrink.distillation.distill import Distill
from tfscale.shrink.distillation.features import FeaturePair

__all__ = ["Distill", "FeaturePair"]
