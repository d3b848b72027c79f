"""Every symbol of Keras and TensorFlow that is replaced, in the order in which a `fit` calls them.

Each row says what is replaced, the fingerprints of the sources that the replacement was written
against (with `()` that of a signature, if the replacement depends on nothing else), what replaces
it, and what is refused if the symbol changed: all strategies, unless something else is named. A
replacement first asks whether it is for a strategy of this package, and otherwise calls the
original. Most rows serve a defect: see `defects.table`.
"""

from __future__ import annotations

from strategies.keras_support.asynchronous.counters import added_in_one_operation
from strategies.keras_support.callback_order import ordered_and_shown, ordered_when_made
from strategies.keras_support.context.inner_functions import (
    is_traced_in_place,
    losses_kept_by_replica,
    traced_in_place,
)
from strategies.keras_support.dispatch import (
    epoch_iterator_of_strategy,
    made_predict_function,
    made_test_function,
    made_train_function,
)
from strategies.keras_support.gradients.optimizer_apply import (
    reduced_before_apply,
    reduced_only_once,
)
from strategies.keras_support.gradients.recomputation import recomputed
from strategies.keras_support.gradients.tape_gradients import reduced_gradient
from strategies.keras_support.metrics.metric_combination import combinable_assignment
from strategies.keras_support.metrics.metric_reduction import loss_of_own_step, mean_by_examples
from strategies.keras_support.model.model_build import built_from_spec
from strategies.keras_support.model.scope import compiled_in_scope, reset_outside_only
from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.patch import Patch
from strategies.keras_support.sharding.optimizer_state import (
    averages_copied_by_part,
    averages_set_by_value,
    averages_swapped_by_value,
    built_in_parts,
    slot_in_parts,
)
from strategies.keras_support.sharding.stages import is_any_sharded
from strategies.keras_support.sharding.update import clipped_by_all_parts, finite_in_all_parts
from strategies.keras_support.state.batch_norm import is_synchronized, moments_over_replicas
from strategies.keras_support.state.layer_state import noted_assignment, reduced_before_read
from strategies.keras_support.state.random_seeds import draw_by_replica
from strategies.keras_support.state.variables import (
    checked_assignment,
    converted_by,
    made_for_all_replicas,
)
from strategies.keras_support.step.added_columns import added_by_row, called_by_row
from strategies.keras_support.step.loss_weighting import (
    added_rows_summed,
    loss_weighted_over_replicas,
    recorded_and_unscaled,
    unscaled_in_step,
)
from strategies.keras_support.workers.chief_only import (
    found_outside_of_scope,
    on_chief_only,
    on_idle_chief_only,
    own_folder_unless_chief,
    printed_on_chief,
    whole_epochs_only,
)
from strategies.keras_support.workers.collective_calls import called_together

_MODEL = "keras:Model"
_VARIABLE = "keras:Variable"
_OPTIMIZER = "keras:Optimizer"
_NATIVE_VARIABLE = "tensorflow.python.distribute.values:DistributedVariable"
_LOSS = "keras.src.losses.loss"
_CALLBACKS = "keras.callbacks"

# The model is made and compiled.
CREATE = Patch(
    f"{_VARIABLE}._initialize",
    frozenset({"ad6609daaed5", "fe08f46f7d43"}),  # 3.14 and 3.15, 3.16
    made_for_all_replicas,
)
CREATE_LATER = Patch(
    f"{_VARIABLE}._deferred_initialize", frozenset({"2e3551d7ca72"}), made_for_all_replicas
)
GRAPH_RESET = Patch(
    "tensorflow.python.framework.ops:_DefaultGraphStack.reset",
    frozenset({"82a55486280e", "()341fb08deeb2"}),
    reset_outside_only,
    Need.CLEAR_SESSION,
)
COMPILE = Patch(
    f"{_MODEL}.compile",
    frozenset({"0a547c739004", "446eafca8852"}),  # 3.14, 3.15
    compiled_in_scope,
)

# `fit`, `evaluate` or `predict` is called.
FIT = Patch(f"{_MODEL}.fit", frozenset({"e83490939563"}), called_together)
EVALUATE = Patch(f"{_MODEL}.evaluate", frozenset({"67a4cd57bf8d"}), called_together, Need.EVALUATE)
PREDICT_CALL = Patch(
    f"{_MODEL}.predict", frozenset({"3b5dfd5d6c06"}), called_together, Need.PREDICT
)
PRINT = Patch(
    "keras.src.utils.io_utils:print_msg",
    frozenset({"a3d4e29f401f", "()c16e0f10df39"}),
    printed_on_chief,
    Need.WORKERS,
)

# Input.
EPOCH_ITERATOR = Patch(
    "keras.src.backend.tensorflow.trainer:TFEpochIterator",
    frozenset({"1bef33c1ae7b"}),
    epoch_iterator_of_strategy,
)

# Build.
BUILD = Patch(f"{_MODEL}._maybe_symbolic_build", frozenset({"c84d306abf31"}), built_from_spec)

# The list of callbacks is made.
CALLBACKS = Patch(
    f"{_CALLBACKS}:CallbackList.set_model",
    frozenset({"7cca38ff0da7", "()ecf2be7b7492"}),
    ordered_when_made,
)
TENSORBOARD = Patch(
    f"{_CALLBACKS}:TensorBoard.set_model",
    frozenset({"3f061c9462dc"}),
    own_folder_unless_chief,
    Need.TENSORBOARD,
)

# The function that Keras's loop calls once an execution.
TRAIN = Patch(
    f"{_MODEL}.make_train_function",
    frozenset({"e37a0521985e"}),
    made_train_function,
)
TEST = Patch(
    f"{_MODEL}.make_test_function",
    frozenset({"e2dacd0f1f49"}),
    made_test_function,
    Need.EVALUATE,
)
PREDICT = Patch(
    f"{_MODEL}.make_predict_function",
    frozenset({"a54b452442b3", "de91436c933c"}),  # 3.14 and 3.15, 3.16
    made_predict_function,
    Need.PREDICT,
)

# Training begins.
TRAIN_BEGIN = Patch(
    f"{_CALLBACKS}:CallbackList.on_train_begin",
    frozenset({"083f9e444cab", "()8171f66befd3"}),
    ordered_and_shown,
)
BACKUP_BEGIN = Patch(
    f"{_CALLBACKS}:BackupAndRestore.on_train_begin",
    frozenset({"d2119f5653c3", "()8171f66befd3"}),
    whole_epochs_only,
    Need.BACKUP,
)
CSV_BEGIN = Patch(
    f"{_CALLBACKS}:CSVLogger.on_train_begin",
    frozenset({"f8ec3ef7740f", "()8171f66befd3"}),
    on_chief_only,
    Need.CSV_LOGGER,
)

# Forward pass.
FUNCTION_CALL = Patch(
    "tensorflow.python.eager.polymorphic_function.polymorphic_function:Function.__call__",
    frozenset({"2c7603e0e889"}),
    traced_in_place,
    Need.INNER_FUNCTIONS,
    is_traced_in_place,
)
MERGE_CALL = Patch(
    "tensorflow.python.distribute.distribute_lib:ReplicaContextBase.merge_call",
    frozenset({"07e14c9d743f"}),
    losses_kept_by_replica,
)
NEXT_SEED = Patch(
    "keras.random:SeedGenerator.next",
    frozenset({"2bfe2d687462", "ed7a22b17b27"}),  # 3.14 and 3.15, 3.16
    draw_by_replica,
    Need.RANDOM_LAYERS,
)
MOMENTS = Patch(
    "keras.layers:BatchNormalization._moments",
    frozenset({"5092e7f28493", "99ef72de87a2"}),  # 3.14, 3.15
    moments_over_replicas,
    Need.SYNCHRONIZED_BATCH_NORM,
    is_synchronized,
)
ADD = Patch(
    "keras.ops:add",
    frozenset({"204e3c956789", "ee4aa0d98895", "()ce45b3c2b56c"}),  # 3.14 and 3.15, 3.16
    added_by_row,
)
ADD_IN_GRAPH = Patch(
    "keras.src.ops.numpy:Add.call",
    frozenset({"1b71afc6ba22", "cc1636de9bde", "()7b2b09884ca3"}),  # 3.14 and 3.15, 3.16
    called_by_row,
)
REMAT = Patch(
    "keras:remat", frozenset({"e672828c948d", "()da1c722bd473"}), recomputed, Need.RECOMPUTATION
)

# Loss.
REDUCE_LOSS = Patch(
    f"{_LOSS}:reduce_weighted_values", frozenset({"53cf33c149ac"}), loss_weighted_over_replicas
)
SCALE = Patch(f"{_LOSS}:scale_loss_for_distribution", frozenset({"1eb8b8f836bf"}), unscaled_in_step)
UNSCALE = Patch(
    f"{_LOSS}:unscale_loss_for_distribution", frozenset({"9201da870665"}), recorded_and_unscaled
)
ADDITIONAL_LOSS = Patch(
    f"{_MODEL}._aggregate_additional_loss",
    frozenset({"4940b692b782", "f57287d056e8"}),  # 3.14 and 3.15, 3.16
    added_rows_summed,
    Need.ADDED_LOSSES,
)

# An optimizer makes its slots.
OPTIMIZER_BUILD = Patch(
    f"{_OPTIMIZER}.build",
    frozenset({"f0baab556a5b"}),
    built_in_parts,
    Need.SHARDING,
    is_any_sharded,
)
SLOT = Patch(
    f"{_OPTIMIZER}.add_variable_from_reference",
    frozenset({"913b26210dcf"}),
    slot_in_parts,
    Need.SHARDING,
    is_any_sharded,
)

# Gradients, reduce and apply.
GRADIENT = Patch(
    "tensorflow.python.eager.backprop:GradientTape.gradient",
    frozenset({"420c92b89919", "582cef584f9d"}),  # TensorFlow 2.20 and 2.21, 2.22
    reduced_gradient,
)
APPLY = Patch(
    f"{_OPTIMIZER}.apply",
    frozenset({"9a22d6209ae5"}),
    reduced_before_apply,
)
LOSS_SCALE_APPLY = Patch(
    "keras.optimizers:LossScaleOptimizer.apply",
    frozenset({"005813294335"}),
    reduced_before_apply,
    Need.LOSS_SCALING,
)
AVERAGES = Patch(
    f"{_OPTIMIZER}._overwrite_model_variables_with_average_value",
    frozenset({"27f3bf191e1e"}),
    averages_copied_by_part,
    Need.SHARDING,
    is_any_sharded,
)
SWAP_AVERAGES = Patch(
    f"{_CALLBACKS}:SwapEMAWeights._tf_swap_variables",
    frozenset({"1163aa6fb574", "6e531508279a"}),  # 3.14, 3.15
    averages_swapped_by_value,
    Need.SHARDING,
    is_any_sharded,
)
SET_AVERAGES = Patch(
    f"{_CALLBACKS}:SwapEMAWeights._tf_finalize_ema_values",
    frozenset({"42b4bde03c6e", "3e5b8620c981"}),  # 3.14, 3.15
    averages_set_by_value,
    Need.SHARDING,
    is_any_sharded,
)
CLIP = Patch(
    f"{_OPTIMIZER}._clip_gradients",
    frozenset({"4f36c46f0644"}),
    clipped_by_all_parts,
    Need.SHARDING,
    is_any_sharded,
)
FINITE = Patch(
    "keras.optimizers:LossScaleOptimizer.check_finite",
    frozenset({"224a94b58c28"}),
    finite_in_all_parts,
    Need.SHARDING,
    is_any_sharded,
)
REDUCE = Patch(
    f"{_OPTIMIZER}._all_reduce_sum_gradients",
    frozenset({"abefde3fa5fe"}),
    reduced_only_once,
)

# State: what a step reads and assigns.
VALUE = Patch(f"{_VARIABLE}.value", frozenset({"0bb493c50d4d"}), reduced_before_read)
ASSIGN = Patch(f"{_VARIABLE}.assign", frozenset({"6f7a61fee40b"}), noted_assignment)
ASSIGN_ADD = Patch(
    f"{_VARIABLE}.assign_add",
    frozenset({"2b3947454b79"}),
    added_in_one_operation,
    Need.PARAMETER_SERVERS,
)
ASSIGN_SUB = Patch(
    f"{_VARIABLE}.assign_sub",
    frozenset({"0594dab8ebd3"}),
    added_in_one_operation,
    Need.PARAMETER_SERVERS,
)
NATIVE_ASSIGN = Patch(f"{_NATIVE_VARIABLE}.assign", frozenset({"901446c0bda3"}), checked_assignment)
NATIVE_ADD = Patch(
    f"{_NATIVE_VARIABLE}.assign_add", frozenset({"4864e5959efc"}), checked_assignment
)
NATIVE_SUB = Patch(
    f"{_NATIVE_VARIABLE}.assign_sub", frozenset({"c19e4ebcdde0"}), checked_assignment
)

# Metrics and logs.
OUTPUT_LOSSES = Patch(
    "keras.metrics:Mean.update_state",
    frozenset({"5e2ca7935110"}),
    mean_by_examples,
)
DIRECT_ASSIGN = Patch(
    f"{_VARIABLE}._direct_assign", frozenset({"269e597a9ee7"}), combinable_assignment
)
EPOCH_LOGS = Patch(
    f"{_MODEL}._get_metrics_result_or_logs", frozenset({"86b411cdd04a"}), loss_of_own_step
)

# Callbacks between and after steps.
FLOAT = Patch(f"{_VARIABLE}.__float__", frozenset({"c22738de193a"}), converted_by(float))
INT = Patch(f"{_VARIABLE}.__int__", frozenset({"fda0e0c633f4"}), converted_by(int))
CHECKPOINT = Patch(
    f"{_CALLBACKS}:ModelCheckpoint._save_model",
    frozenset({"1db2a5a958d6", "()60d92e6686a5"}),
    on_idle_chief_only,
    Need.MODEL_CHECKPOINT,
)
BACKUP_SAVE = Patch(
    f"{_CALLBACKS}:BackupAndRestore._save_model",
    frozenset({"8877dd811391", "()8ee83f688fd2"}),
    on_idle_chief_only,
    Need.BACKUP,
)
SAVED_ATTRIBUTES = Patch(
    "keras.src.saving.saving_lib:get_attr_skipset",
    frozenset({"d8a330e73202"}),
    found_outside_of_scope,
    Need.SAVING_IN_SCOPE,
)
CSV_EPOCH = Patch(
    f"{_CALLBACKS}:CSVLogger.on_epoch_end",
    frozenset({"905c9f84bdb3", "()d9eba4c32ca8"}),
    on_chief_only,
    Need.CSV_LOGGER,
)
CSV_END = Patch(
    f"{_CALLBACKS}:CSVLogger.on_train_end",
    frozenset({"82d285a37d22", "()bd2502016ed4"}),
    on_chief_only,
    Need.CSV_LOGGER,
)
BACKUP_END = Patch(
    f"{_CALLBACKS}:BackupAndRestore.on_train_end",
    frozenset({"eba739bc50fd", "()bd2502016ed4"}),
    on_chief_only,
    Need.BACKUP,
)

PATCHES = tuple(value for value in list(globals().values()) if isinstance(value, Patch))
"""All of the above, in their order."""
