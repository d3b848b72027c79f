"""Private symbols of Keras and TensorFlow that finders use; see `private_symbol`."""

from __future__ import annotations

from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_symbol import used

_GLOBAL_STATE = "keras.src.backend.common.global_state"

FINDER_SYMBOLS = (
    *used(
        Need.FINDERS,
        "keras_support.state",
        "keeps the generator of draws without a seed, and puts it back",
        {
            f"{_GLOBAL_STATE}:get_global_attribute": "abc29405067f",
            f"{_GLOBAL_STATE}:set_global_attribute": "2cf4c072f3b7",
        },
    ),
    *used(
        Need.FINDERS,
        "keras_support.state",
        "keeps what operations without a seed draw from, and puts it back",
        {
            "tensorflow.python.eager.context:context": "9c8ccb6f8593",
            "tensorflow.python.eager.context:Context._rng": "1e60649e9b8c",
        },
    ),
    *used(
        Need.FINDERS,
        "keras_support.model",
        "the schedule of an optimizer's learning rate, which finders replace for a while",
        {"keras:Optimizer._learning_rate": "fe5cd7cef6b2"},
    ),
)
"""All of them."""
