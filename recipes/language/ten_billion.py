"""A language model of ten billion parameters, to plan: docs/howto/plan_memory.md.

    tfscale plan recipes.language.ten_billion:build --replicas=64 --global_batch_size=512

It is too large for most machines to build, and `tfscale plan` does not need to.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from recipes.language.model import compile_for_training, language_model
from recipes.language.sizes import ModelSize

TEN_BILLION = ModelSize(layers=39, width=4608, heads=36)
NUM_TOKENS = 32_000
CONTEXT = 2048


def build() -> tuple[keras.Model, Any]:
    """Returns the model, compiled with AdamW, and a batch of one row: 10.1e9 parameters."""
    model = language_model(TEN_BILLION, num_tokens=NUM_TOKENS, seed=0)
    optimizer = keras.optimizers.AdamW(1e-4, weight_decay=0.1)
    compile_for_training(model, optimizer, [4] * NUM_TOKENS)
    row = np.ones((1, CONTEXT), "int32")
    inputs = dict.fromkeys(("tokens", "positions", "segment_ids"), row)
    return model, (inputs, row, np.ones((1, CONTEXT), "float32"))
