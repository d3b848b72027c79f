"""State that modules keep: all of it is in this table; see `test_module_state`.

What a module keeps outlives a `fit`, a model or a strategy, is shared by threads, and is inherited
by a forked process. So each row says what it contains, who sets it and when it ends. "Weak" is a
table whose entries go with their keys.
"""

from __future__ import annotations

from typing import NamedTuple


class State(NamedTuple):
    """One row.

    Attributes:
        name: `module:name`; of a cached function the function's.
        contains: What is in it.
        set_by: Who writes it.
        ends: When it is cleared, or why that is not needed.
    """

    name: str
    contains: str
    set_by: str
    ends: str


KERAS_SUPPORT = "strategies.keras_support"
STATE = (
    # Which strategies, models and optimizers are meant. Weak but for `_BUILT`.
    State(
        f"{KERAS_SUPPORT}.patching.ownership:_OWNED",
        "strategies that factories of this package built",
        "`support`",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.patching.ownership:_BUILT",
        "kinds of strategies that factories of this package built",
        "`support`",
        "never: it serves messages about models outside of a scope, and has few values",
    ),
    State(
        f"{KERAS_SUPPORT}.patching.step_clock:_CLOCKS",
        "by model, the clock that its functions are traced with",
        "`mark_phases`, `attach_clock` (Watchdog)",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.placement.replica_devices:_DEVICES",
        "by strategy, the devices of each replica, where it has several",
        "`mirrored_strategy`",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.context.weight_copies:_READING",
        "by thread, the copies of weights that a replica reads instead",
        "a pipeline, around the forward pass of a stage",
        "with the pass",
    ),
    State(
        f"{KERAS_SUPPORT}.placement.variable_devices:_MAKING",
        "by thread, the devices of the variables that are being made",
        "`Pipeline`, `Optimizer.add_variable_from_reference`",
        "when they are made",
    ),
    State(
        f"{KERAS_SUPPORT}.tensor.ranks:_COMPUTING",
        "by thread, for which device of its replica a divided layer computes",
        "the layer's call",
        "when it ends",
    ),
    State(
        f"{KERAS_SUPPORT}.pipeline.pipelined_model:_PIPELINES",
        "by model, how it is computed as a pipeline",
        "`Pipeline`",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.sharding.stages:_STAGES",
        "by strategy, what its replicas keep parts of",
        "`support`",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.sharding.stages:_DIVISIONS",
        "how often a parameter was divided in another way",
        "`Optimizer.build`",
        "never: it only grows",
    ),
    State(
        f"{KERAS_SUPPORT}.sharding.optimizer_state:_MAKING",
        "by thread, the division of the slot that an optimizer is making",
        "`Optimizer.add_variable_from_reference`",
        "when the slot is made",
    ),
    State(
        f"{KERAS_SUPPORT}.sharding.update:_UPDATING",
        "by thread, the norms over all replicas in the update that is traced",
        "`update_parts`",
        "when the update is traced",
    ),
    State(
        f"{KERAS_SUPPORT}.sharding.backward_gathers:_BACKWARD",
        "by thread, the gradient that is traced",
        "`gathering_again`",
        "when the gradient is traced",
    ),
    State(
        f"{KERAS_SUPPORT}.sharding.gathering:_OUTSIDE",
        "by thread, the rows of lookups of a gradient outside of a step",
        "`keeping_rows`",
        "when the gradient is computed",
    ),
    State(
        f"{KERAS_SUPPORT}.step.train_function:_LAST",
        "by strategy, what chose the executions of its newest `fit`, for the report",
        "`choose_execution_size`",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.step.microbatch_count:_OF_EVERY_FIT",
        "by model, the microbatches of each `fit` without a callback that says another number",
        "`train_in_microbatches` (tfscale.prepare)",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.gradients.gradient_watch:_WATCHES",
        "by optimizer, the watch that judges its steps",
        "`GradientWatch.attach` (Stability)",
        "`GradientWatch.detach`; weak",
    ),
    State(
        f"{KERAS_SUPPORT}.gradients.update_rules:_RULES",
        "by innermost optimizer, the rules that hold after its updates",
        "`attach_rule` (Prune)",
        "`detach_rule`; weak",
    ),
    State(
        f"{KERAS_SUPPORT}.gradients.local_steps:_ROUNDS",
        "by optimizer that steps locally now, the examples of its round",
        "local training, around one execution",
        "at the end of the execution; weak",
    ),
    State(
        f"{KERAS_SUPPORT}.asynchronous.executions:_EXECUTIONS",
        "by parameter server strategy, the executions that were handed out",
        "`executions_of`, at the first execution",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.model.replica_values:_GATHERING",
        "by strategy, the function that gathers values of replicas",
        "its first use",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.workers.state_digest:_FUNCTIONS",
        "by model, the functions that compute digests of its variables",
        "its first use",
        "weak",
    ),
    State(
        f"{KERAS_SUPPORT}.state.random_seeds:_DATA_GENERATORS",
        "by seed generator, the one that draws for a dataset",
        "the first draw inside a dataset's function",
        "weak",
    ),
    # What is going on now: one value a thread, set around a call.
    State(
        f"{KERAS_SUPPORT}.input.current_fit:_RUNNING",
        "the `fit` that is running: its strategy, first epoch and training data",
        "`called_together`, around Keras's `fit`",
        "at the end of the `fit`",
    ),
    State(
        f"{KERAS_SUPPORT}.context.recomputed_pass:_PASS",
        "the pass of a recomputed function that this thread's replica is in",
        "`taking_pass`, around a pass",
        "at the end of the pass",
    ),
    State(
        f"{KERAS_SUPPORT}.context.step_context:_CURRENT",
        "the step that this thread's replica is taking",
        "`taking_step`, around a user's step",
        "at the end of the step",
    ),
    State(
        f"{KERAS_SUPPORT}.gradients.optimizer_apply:_REPLICA",
        "whether this thread is inside the outermost `optimizer.apply`",
        "`optimizer.apply`",
        "at its end",
    ),
    State(
        f"{KERAS_SUPPORT}.gradients.tape_gradients:_TRACING",
        "whether this thread is inside `tape.gradient` or `local_gradients`",
        "these two",
        "at their end",
    ),
    State(
        f"{KERAS_SUPPORT}.workers.collective_calls:_CALLS",
        "how many calls of fit, evaluate and predict this thread is in",
        "`called_together`",
        "at the end of the call",
    ),
    State(
        f"{KERAS_SUPPORT}.workers.chief_only:_CALLS",
        "how many of these calls print nothing",
        "`quiet_unless_chief`",
        "at the end of the call",
    ),
    State(
        "strategies.progress:_watched",
        "the progress of the call of Keras that is recorded now",
        "`followed` around a call, `watch` (Watchdog) inside of it",
        "at the end of the call",
    ),
    State(
        "strategies.progress:_ENDS",
        "what this thread's `fit` calls when it is over",
        "`at_end_of_fit` (Checkpoint)",
        "at the end of the `fit`",
    ),
    State(
        "strategies.coordination.rendezvous:_current",
        "the rendezvous at which this process waits now",
        "`exchange`",
        "at its end",
    ),
    # Names that all workers count alike, so they must never begin again in one process.
    State(
        "strategies.coordination.rendezvous:_ROUNDS",
        "the number of the next rendezvous",
        "`exchange`",
        "never: the same on all workers, who make the same calls",
    ),
    State(
        "strategies.coordination.preemption_consensus:_TRAININGS",
        "the number of the next training that listens for preemption",
        "`PreemptionNotice`",
        "never: the same on all workers",
    ),
    State(
        "tfscale.callbacks.watchdog:_FITS",
        "the number of the next watched `fit`",
        "`Watchdog.on_train_begin`",
        "never: the same on all workers",
    ),
    State(
        "strategies.coordination.collective_keys:_RANGES",
        "the next range of collective keys",
        "`own_collective_keys`, around the building of a strategy",
        "never: the same on all workers",
    ),
    State(
        "strategies.coordination.collective_keys:_LOCK",
        "a lock around TensorFlow's start of keys, which is one for the process",
        "-",
        "-",
    ),
    # Once a process.
    State(
        "strategies.cluster.exit_reason:_WRITERS",
        "what writes for the launcher how this process ends",
        "`write_exit_reason_at_end`, called by `support`",
        "never: it serves the end of the process",
    ),
    State(
        "strategies.liveness.wait_notice:_NOTICES",
        "the thread that reports which worker others wait for",
        "`give_wait_notices`, called by `support`",
        "never: one for the process",
    ),
    State(
        f"{KERAS_SUPPORT}.installation:_install",
        "what the installed releases changed, when the patches are installed",
        "`support`",
        "never: patches stay for the process",
    ),
    State(
        f"{KERAS_SUPPORT}.patching.patch:INSTALLED",
        "the installed patches, with what they replaced",
        "`Patch.install`",
        "never: patches stay for the process",
    ),
    State(
        f"{KERAS_SUPPORT}.patching.needs:_CHANGES",
        "by feature that is refused, the symbols that changed",
        "`note_changes`, called by `support`",
        "never: a source stays",
    ),
    State(
        f"{KERAS_SUPPORT}.patching.private_symbol:_is_recognised_once",
        "by private symbol, whether the installed source is known",
        "`changed_symbols`",
        "never: an installed source does not change",
    ),
    State(
        f"{KERAS_SUPPORT}.patching.private_symbol:_tree",
        "by module of Keras or TensorFlow, its parsed source",
        "`PrivateSymbol.fingerprint`",
        "`changed_symbols`, when it has compared",
    ),
    State(
        "tfscale.preflight.operations:_register_kernels",
        "that XLA's kernels are registered",
        "its first call",
        "never",
    ),
    State(
        "tfscale.preflight.operations:_kernels_of",
        "by type of operation, the dtypes that XLA's kernels take",
        "its first call",
        "never: kernels do not change",
    ),
    State(
        "tfscale.preflight.findings:_library_folders",
        "the folders of the libraries that run a step",
        "its first call",
        "never",
    ),
    State(
        "tfscale.preflight.findings:_is_own",
        "by file, whether it belongs to the user",
        "its first call",
        "never: few files",
    ),
    State(
        "tfscale.report.markup:_environment",
        "the templates of the report",
        "its first call",
        "never",
    ),
    # What was reported, so that it is reported once.
    State(
        f"{KERAS_SUPPORT}.model.outside_scope:_IS_ANNOUNCED",
        "whether a `fit` outside of a scope was announced",
        "the first such `fit`",
        "never",
    ),
    State(
        f"{KERAS_SUPPORT}.input.input_agreement:_REPORTED",
        "sentences on inputs that differ between workers",
        "the comparison of first batches",
        "never: few sentences",
    ),
    State(
        f"{KERAS_SUPPORT}.workers.state_agreement:_REPORTED",
        "models whose weights were reported to differ by rounding",
        "the comparison of models",
        "weak",
    ),
    # Leases on folders of checkpoints, one a folder and process.
    State(
        "tfscale.checkpoints.lease:_HELD",
        "by folder, the lease and its uses",
        "`SharedLease` (Checkpoint)",
        "the last `release`; at the end of the process; in a forked child",
    ),
    State(
        "tfscale.checkpoints.lease:_LOCK",
        "a lock around `_HELD`",
        "-",
        "made again in a forked child",
    ),
    State(
        "tfscale.data.remote.copying:_folder",
        "by folder, the copies of remote files that this process uses, and its lease on them",
        "`local_copies`",
        "never: sources read the copies until the process ends",
    ),
    State(
        "tfscale.checkpoints.lease:_register_once",
        "that leases are released at the end of the process",
        "its first call",
        "never",
    ),
)
