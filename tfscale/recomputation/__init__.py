"""Recomputation: layers that keep only their inputs for the backward pass."""

from tfscale.recomputation.chosen_layers import recompute

__all__ = ["recompute"]
