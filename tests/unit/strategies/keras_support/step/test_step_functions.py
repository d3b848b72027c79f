"""Several steps in one execution, whose collectives get varying numbers of rows."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.coordination import collective_keys

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]


def trained(strategy: tf.distribute.Strategy, rows: int) -> list[np.ndarray]:
    keras.utils.set_random_seed(3)
    tokens = np.arange(rows * 3).reshape(rows, 3) % 7
    passes = tf.data.Dataset.from_tensor_slices((tokens, np.arange(rows) / 9)).batch(5).repeat()
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.layers.Embedding(7, 4),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(1),
            ]
        )
        model.compile("adam", "mse", steps_per_execution=4)
    model.fit(passes, steps_per_epoch=8, verbose=0)
    return list(model.get_weights())


def test_a_smaller_batch_in_an_execution_matches_one_device() -> None:
    found = trained(strategies.mirrored_strategy(num_replicas=2), 13)
    for own, expected in zip(found, trained(tf.distribute.get_strategy(), 13), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-11, atol=1e-13)


def test_an_error_explains_more_rows_than_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collective_keys, "_MOST_ROWS", 4)
    with pytest.raises(ValueError, match=r"`steps_per_execution` must be 1 .* an execution of 4"):
        trained(strategies.mirrored_strategy(num_replicas=2), 13)
