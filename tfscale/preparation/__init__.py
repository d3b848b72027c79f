"""Prepares a Keras model for a strategy: scope, precision, learning rate, optimizer."""

from tfscale.preparation.preparing import prepare

__all__ = ["prepare"]
