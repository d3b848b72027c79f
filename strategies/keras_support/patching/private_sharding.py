"""Private symbols of Keras and TensorFlow that sharded state uses; see `private_symbol`."""

from __future__ import annotations

from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_symbol import used

_BASE_OPTIMIZER = "keras.src.optimizers.base_optimizer:BaseOptimizer"
_OPTIMIZER = "keras:Optimizer"
_VARIABLE = "keras:Variable"

SHARDING_SYMBOLS = (
    *used(
        Need.SHARDING,
        "keras_support.sharding",
        "makes a part of a variable on one device",
        {"tensorflow.python.ops.resource_variable_ops:ResourceVariable": "06d446ccf020"},
    ),
    *used(
        Need.SHARDING,
        "keras_support.sharding",
        "makes a slot without TensorFlow's own placement",
        {f"{_BASE_OPTIMIZER}.add_variable_from_reference": "f7ea22ba7880"},
    ),
    *used(
        Need.SHARDING,
        "keras_support.sharding",
        "the strategy, the variables and the slots of an optimizer",
        {
            f"{_OPTIMIZER}._distribution_strategy": "da18656adeb0",
            f"{_OPTIMIZER}._trainable_variables": "6076d8d857b0",
            f"{_OPTIMIZER}._accumulated_gradients": "510cea89436e",
            f"{_OPTIMIZER}._model_variables_moving_average": "e69cee93dbc7",
            f"{_OPTIMIZER}._get_variable_index": "6d66b70fd0a2",
        },
    ),
    *used(
        Need.SHARDING,
        "keras_support.sharding",
        "lets a variable show its part",
        {
            f"{_VARIABLE}._shape": "26019f6a776b",
            f"{_VARIABLE}._ndim": "458fe5a6427d",
            f"{_VARIABLE}._dtype": "91d2516b6022",
            f"{_VARIABLE}._constraint": "618b7aaeddd5",
        },
    ),
    *used(
        Need.SHARDING,
        "keras_support.sharding",
        "tells that only shapes are computed",
        {"keras.src.backend.common.symbolic_scope:in_symbolic_scope": "cab1789ce400"},
    ),
    *used(
        Need.SHARDING,
        "keras_support.sharding",
        "the parameters of a layer",
        {"keras.layers:Layer._trainable_variables": "9d6b8c1e8e61"},
    ),
    *used(
        Need.SHARDING,
        "keras_support.sharding",
        "updates parts from inside of a condition",
        {
            "tensorflow.python.distribute.distribute_lib:StrategyExtendedV2._replica_ctx_update": (
                "8c495061a8d3"
            )
        },
    ),
    *used(
        Need.SHARDING,
        "keras_support.gradients.optimizer_apply",
        "the strategy of an optimizer that is called outside of a step",
        {f"{_OPTIMIZER}._distribution_strategy": "da18656adeb0"},
    ),
    *used(
        Need.SHARDING,
        "keras_support.sharding.gathering",
        "whether the tape that records has seen a parameter gathered",
        {
            "tensorflow.python.eager.record:should_record_backprop": "90833153a38f",
            "tensorflow.python.eager.record:could_possibly_record": "2c2bd384639a",
        },
    ),
    *used(
        Need.SHARDING,
        "keras_support.sharding",
        "gathers parameters again where a gradient uses them",
        {"tensorflow.python.framework.func_graph:FuncGraph._create_op_internal": "f8243fb93570"},
    ),
)
"""All of them."""
