"""Several steps in one execution, where TensorFlow's collectives set the limit."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process


def test_a_smaller_batch_within_an_execution_is_explained_where_rows_are_gathered() -> None:
    strategy = strategies.mirrored_strategy(num_replicas=2)
    tokens = np.arange(13 * 3).reshape(13, 3) % 7
    passes = tf.data.Dataset.from_tensor_slices((tokens, np.ones((13, 1)))).batch(5).repeat()
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.layers.Embedding(7, 4),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse", steps_per_execution=4)
    with pytest.raises(ValueError, match=r"`steps_per_execution` must be 1 .* an execution of 4"):
        model.fit(passes, steps_per_epoch=8, verbose=0)
