"""Callbacks for `fit` that are right on many replicas.

model.fit(train, callbacks=[tfscale.callbacks.ReduceOnPlateau("val_loss", patience=5)])
"""

from tfscale.callbacks.plateau import ReduceOnPlateau

__all__ = ["ReduceOnPlateau"]
