"""A model that is explained on two workers, which both get all attributions."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from tests.unit.tfscale.explain.explained_models import mlp, rows
from tests.workers.job import Found
from tfscale.explain import integrated_gradients, occlusion, permutation_importance


def explained(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Explains five rows, which two workers divide unevenly."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        model = mlp(strategy)
        x, y = rows(5, 5), [0, 1, 2, 0, 1]
        return {
            "integrated_gradients": integrated_gradients(model, x).attributions.tolist(),
            "occlusion": occlusion(model, x, target=1).attributions.tolist(),
            "permutation_importance": permutation_importance(
                model, (x, y), metric="crossentropy", repeats=1
            ).losses.tolist(),
        }
    finally:
        keras.config.set_dtype_policy(policy)
