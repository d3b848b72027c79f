"""A model of yours, made ready for a strategy: in its scope, in its precision, with a schedule."""

from tfscale.preparation.preparing import prepare

__all__ = ["prepare"]
