"""Private symbols of Keras that divided layers use; see `private_symbol`."""

from __future__ import annotations

from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_symbol import used

_MASKING = "keras.src.backend.common.masking"
_VARIABLE = "keras:Variable"

TENSOR_SYMBOLS = (
    *used(
        Need.TENSOR_PARALLEL,
        "keras_support.tensor",
        "makes a part of a variable with the same properties",
        {
            f"{_VARIABLE}._autocast": "5b0c63da4488",
            f"{_VARIABLE}._path": "4c2d3a7b1ffa",
        },
    ),
    *used(
        Need.TENSOR_PARALLEL,
        "keras_support.tensor",
        "lists the parts among a layer's variables",
        {"keras.layers:Layer._trainable_variables": "9d6b8c1e8e61"},
    ),
    *used(
        Need.TENSOR_PARALLEL,
        "keras_support.tensor",
        "the matrices of layers",
        {
            "keras.layers:Dense._kernel": "8c1d9372f5dc",
            "keras.layers:EinsumDense._kernel": "1d5530b7cea8 3990ad47ea8a",
            "keras.layers:Embedding._embeddings": "71dc59f8067a",
        },
    ),
    *used(
        Need.TENSOR_PARALLEL,
        "keras_support.tensor",
        "takes the mask of a tensor to another device",
        {
            f"{_MASKING}:get_keras_mask": "960fa86967cd",
            f"{_MASKING}:set_keras_mask": "1fe150484168",
        },
    ),
)
"""All of them."""
