"""Private symbols that preflight, planning and monitoring use; see `private_symbol`.

They train nothing, so a change refuses no strategy; `tfscale doctor` reports it.
"""

from __future__ import annotations

from strategies.extension import Need, PrivateSymbol

_LIB = "tensorflow.python.distribute.distribute_lib"
_AHEAD_OF_TIME = ("tfscale.preflight.ahead_of_time",)
_OPERATIONS = ("tfscale.preflight.operations",)

LAYER_CREATION = PrivateSymbol(
    "keras:Layer.__new__",
    ("133ebf47f53d", "985703d528d9"),  # 3.14 and 3.15, 3.16
    Need.REPORTS,
    ("tfscale.preflight.findings",),
    "replaced while a model is built, to record where its layers are created",
)
PREFLIGHT_SYMBOLS = (
    LAYER_CREATION,
    PrivateSymbol(
        "tensorflow.python.framework.kernels:get_registered_kernels_for_op",
        ("f48796c0ac0c",),
        Need.REPORTS,
        _OPERATIONS,
        "the dtypes that XLA's kernels accept",
    ),
    PrivateSymbol(
        "tensorflow.python.framework.ops:Graph._get_function",
        ("0d1f15453392",),
        Need.REPORTS,
        (
            *_OPERATIONS,
            "tfscale.plan.memory.step_graph",
            "tfscale.plan.memory.loops",
            "tfscale.monitor",
        ),
        "the graph of a branch or a loop",
    ),
    PrivateSymbol(
        "keras:Optimizer._trainable_variables",
        ("6076d8d857b0",),
        Need.REPORTS,
        ("tfscale.plan.memory.traced_model",),
        "the weights of gradients that are applied without them",
    ),
    PrivateSymbol(
        "tensorflow.python.ops.resource_variable_ops:UninitializedVariable",
        ("a3f668fd0c99",),
        Need.REPORTS,
        ("tfscale.plan.memory.unallocated",),
        "makes variables that have a shape and no memory",
    ),
    PrivateSymbol(
        f"{_LIB}:StrategyExtendedV1._use_merge_call",
        ("958da61d775d",),
        Need.REPORTS,
        _AHEAD_OF_TIME,
        "asks for a sum in the replica's own graph",
    ),
    PrivateSymbol(
        f"{_LIB}:StrategyExtendedV2._replica_ctx_all_reduce",
        ("c350f5b9c622",),
        Need.REPORTS,
        _AHEAD_OF_TIME,
        "puts all-reduces into the graph that a chip's compiler is given",
    ),
    PrivateSymbol(
        "tensorflow.compiler.tf2xla.ops.gen_xla_ops:xla_all_reduce",
        ("22e4ae4740dd",),
        Need.REPORTS,
        _AHEAD_OF_TIME,
        "puts all-reduces into the graph that a chip's compiler is given",
    ),
)
