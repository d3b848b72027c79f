"""A learning rate that two workers find together, after which they train as if they had not."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from tests.unit.tfscale.find.found_models import BATCH, data_of, fit, left, network
from tests.workers.job import Found
from tfscale.find.learning_rate import find_learning_rate


def found_rates(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    ends = []
    for finds in (False, True):
        keras.utils.clear_session()
        model = network(strategy, "averaging", is_built=True)
        data = data_of("arrays", strategy)
        fit(model, data, 1)
        if finds:
            found = find_learning_rate(model, data, batch_size=BATCH, lowest=1e-4, steps=25)
        ends.append([fit(model, data, 1), left(model)])
    return {"ends": ends, "losses": found.losses, "suggestion": found.suggestion}


CASES = (found_rates,)
