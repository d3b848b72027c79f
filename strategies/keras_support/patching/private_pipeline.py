"""Private symbols of Keras and TensorFlow that pipelines use; see `private_symbol`."""

from __future__ import annotations

from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_symbol import used

_FUNCTIONAL = "keras.src.models.functional"
_FUNCTION = "keras.src.ops.function:Function"
_OPTIMIZER = "keras:Optimizer"
_MASKING = "keras.src.backend.common.masking"

PIPELINE_SYMBOLS = (
    *used(
        Need.PIPELINES,
        "keras_support.pipeline",
        "runs the operations of a model in Keras's order, as its `call` does",
        {
            f"{_FUNCTIONAL}:Functional": "07b701452a31 790e75f24cb8",
            f"{_FUNCTIONAL}:operation_fn": "93788dad21c0",
            f"{_FUNCTIONAL}:Functional._standardize_inputs": "51e730539369",
            f"{_FUNCTION}._nodes_by_depth": "496bfbb278ee",
            f"{_FUNCTION}._outputs_struct": "7c46e3f63d5b",
            "keras:Sequential._functional": "4f7dd5194ff4",
        },
    ),
    *used(
        Need.PIPELINES,
        "keras_support.pipeline",
        "takes the mask of a tensor to the next stage",
        {
            f"{_MASKING}:get_keras_mask": "960fa86967cd",
            f"{_MASKING}:set_keras_mask": "1fe150484168",
        },
    ),
    *used(
        Need.PIPELINES,
        "keras_support.pipeline",
        "the losses that layers add, for each microbatch",
        {"keras:Layer._losses": "a7a353e9bc95"},
    ),
    *used(
        Need.PIPELINES,
        "keras_support.pipeline",
        "computes loss and metrics as Keras's own steps do",
        {"keras:Model._compute_loss": "3dd05bd44e41", "keras:Model._loss_tracker": "29de7f9a3be6"},
    ),
    *used(
        Need.PIPELINES,
        "keras_support.pipeline",
        "moves the slots of a weight with it",
        {
            f"{_OPTIMIZER}._trainable_variables": "6076d8d857b0",
            f"{_OPTIMIZER}._trainable_variables_indices": "ea774cafc153",
            f"{_OPTIMIZER}._var_key": "aed67251d647",
        },
    ),
    *used(
        Need.PIPELINES,
        "keras_support.pipeline",
        "keeps the times of units on one device",
        {"tensorflow.python.ops.resource_variable_ops:ResourceVariable": "06d446ccf020"},
    ),
)
"""All of them."""
