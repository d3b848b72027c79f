"""Sharded state: each replica keeps its part of optimizer state, gradients and parameters."""
