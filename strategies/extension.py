"""What `tfscale` uses of this package beyond its public names.

    from strategies.extension import exchange, is_multi_worker

The line between the two packages: `tfscale` imports from `strategies` and from here, and a house
test keeps it so. The names may change with any release, and are documented where they are defined.

Importing this module imports neither TensorFlow nor Keras. Taking a name imports the module that
defines it and nothing more, so the launcher can read a cluster without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strategies.announcement import announce
    from strategies.arguments import (
        function,
        number,
        one_of,
        sequence,
        strategy_of,
        text,
        truth,
        whole_number,
    )
    from strategies.batch_parts import Shared, named_parts, spec_with_rows, static_rows
    from strategies.cluster.cluster import host_and_port
    from strategies.cluster.environments import (
        DATA_WORKER_VARIABLE,
        DATA_WORKERS_VARIABLE,
        DEFAULT_START_SECONDS,
        EXIT_REASON_VARIABLE,
        JOB_VARIABLE,
        RESTART_VARIABLE,
        START_SECONDS_VARIABLE,
        JobStart,
        cluster_from_environment,
        data_workers,
        environment_of_one_process,
        notice_seconds_from_environment,
        own_data_workers,
        own_job_starts,
        start_seconds_from_environment,
    )
    from strategies.cluster.environments.mpi import cluster_from_mpi, mpi_environment, parse_hosts
    from strategies.cluster.exit_reason import ExitReason, read_exit_reason, write_exit_reason
    from strategies.cluster.server_probe import TaskProbe
    from strategies.coordination.heartbeats import HeartbeatBoard
    from strategies.coordination.preemption_consensus import PreemptionNotice
    from strategies.coordination.rendezvous import exchange, worker_index
    from strategies.deadline import Deadline
    from strategies.devices import all_on
    from strategies.global_batches import (
        EvenReplicaBatch,
        GlobalBatches,
        PaddedReplicaBatch,
        ReplicaBatch,
        counted_replica_batches,
        own_rows,
        replica_batch_bounds,
        replica_batches,
    )
    from strategies.half_precision_outputs import outputs_in_half_precision, warn_of_half_precision
    from strategies.keras_support.asynchronous.executions import wait_until_idle
    from strategies.keras_support.asynchronous.reports import task_probe
    from strategies.keras_support.context.over_replicas import (
        all_gather,
        mean_over_replicas,
        ratio_over_replicas,
        sum_over_replicas,
    )
    from strategies.keras_support.context.packs import packs
    from strategies.keras_support.context.step_context import current_step
    from strategies.keras_support.defects.table import FIXES
    from strategies.keras_support.gradients.gradient_watch import VERDICTS, GradientWatch, Trouble
    from strategies.keras_support.gradients.tape_gradients import local_gradients
    from strategies.keras_support.gradients.update_norms import UpdateNorms
    from strategies.keras_support.gradients.update_rules import written_by_rules
    from strategies.keras_support.gradients.weight_clusters import WeightClusters
    from strategies.keras_support.gradients.weight_masks import MaskRule, WeightMasks
    from strategies.keras_support.input.resume import FitInput, end_resumption
    from strategies.keras_support.installation import (
        changes_by_need,
        support,
        support_shared_parts,
    )
    from strategies.keras_support.local_sgd import (
        LocalTraining,
        trace_step_again,
        trains_on_one_replica,
    )
    from strategies.keras_support.metrics.metric_combination import combined_by
    from strategies.keras_support.model.model_parts import (
        all_layers,
        compile_arguments,
        copy_trainable,
        direct_layers,
        loss_in,
        names_dtype,
        optimized_variables,
        own_state,
        own_weights,
        schedule_of,
    )
    from strategies.keras_support.model.outside_scope import refuse_model_outside
    from strategies.keras_support.model.recomputed_layers import (
        recomputation_of,
        restore_recomputation,
        set_recomputed,
    )
    from strategies.keras_support.model.replica_values import (
        assign_replica_values,
        assign_value,
        is_per_replica,
        replica_values,
    )
    from strategies.keras_support.patching.needs import Need
    from strategies.keras_support.patching.ownership import (
        is_asynchronous,
        is_multi_worker,
        is_on_server,
        is_owned,
    )
    from strategies.keras_support.patching.patch import Patch
    from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
    from strategies.keras_support.patching.private_symbol import PrivateSymbol
    from strategies.keras_support.patching.private_tensorflow import TENSORFLOW_SYMBOLS
    from strategies.keras_support.patching.step_clock import attach_clock
    from strategies.keras_support.pipeline.chunk_layer import call_of_node
    from strategies.keras_support.pipeline.model_cut import (
        graph_of,
        inputs_of,
        nodes_in_order,
        places_to_cut,
        through_graph,
    )
    from strategies.keras_support.pipeline.noted_units import noted_units
    from strategies.keras_support.pipeline.pipelined_model import pipeline_of, train_as_pipeline
    from strategies.keras_support.pipeline.schedule import (
        SCHEDULES,
        Timeline,
        Unit,
        bubble_by_formula,
        device_orders,
        timeline,
    )
    from strategies.keras_support.pipeline.shared_weights import owners
    from strategies.keras_support.pipeline.staged_steps import training_step_of
    from strategies.keras_support.placement.replica_devices import (
        devices_by_replica,
        plan_devices,
        planned_place,
    )
    from strategies.keras_support.sharding.backward_gathers import ONLY_SHAPE
    from strategies.keras_support.sharding.cuts import cuts_for
    from strategies.keras_support.sharding.sharded_value import is_sharded
    from strategies.keras_support.sharding.stages import stage_of
    from strategies.keras_support.sharding.whole_values import whole_value
    from strategies.keras_support.state.random_state import RandomState
    from strategies.keras_support.state.variables import floats_read_as
    from strategies.keras_support.step.microbatch_count import (
        fit_in_microbatches,
        train_in_microbatches,
    )
    from strategies.keras_support.step.tracing import (
        TracedStep,
        needed_operations,
        traced_forward_pass,
        traced_train_step,
    )
    from strategies.keras_support.step.train_function import (
        last_execution_size,
        remake_train_function,
    )
    from strategies.keras_support.tensor.divided_layers import (
        axis_of,
        devices_per_replica,
        divide_block,
        divide_layer,
        kernel_of,
    )
    from strategies.keras_support.tensor.parts import (
        divided_weights,
        is_divided,
        owns,
        whole_weights,
    )
    from strategies.keras_support.workers.state_agreement import broadcast_state
    from strategies.liveness.blocking_workers import stalled_workers
    from strategies.liveness.heartbeat import Heartbeat, LocalHeartbeat, ObservedWorker
    from strategies.liveness.peers import Peers
    from strategies.liveness.task_notice import state_of_tasks
    from strategies.number_rules import (
        COUNT,
        COUNT_OR_ZERO,
        LARGEST_COUNT,
        NOT_NEGATIVE,
        POSITIVE,
        SECONDS,
        SECONDS_OR_ZERO,
        Number,
        NumberRule,
        floats,
        integers,
    )
    from strategies.progress import (
        Progress,
        at_end_of_fit,
        moved,
        phase,
        timed_progress,
        watch,
    )
    from strategies.tpu.cpu_stand_in import TpuStandIn

_NAMES = {
    # Checked arguments, and lines that one worker prints for all.
    "strategies.arguments": (
        *("function", "number", "one_of", "sequence", "strategy_of", "text", "truth"),
        "whole_number",
    ),
    "strategies.number_rules": (
        *("COUNT", "COUNT_OR_ZERO", "LARGEST_COUNT", "NOT_NEGATIVE", "POSITIVE", "SECONDS"),
        *("SECONDS_OR_ZERO", "Number", "NumberRule", "floats", "integers"),
    ),
    "strategies.announcement": ("announce",),
    "strategies.deadline": ("Deadline",),
    # The cluster, the environment it is read from, and how a worker ended.
    "strategies.cluster.cluster": ("host_and_port",),
    "strategies.cluster.environments": (
        *("DATA_WORKERS_VARIABLE", "DATA_WORKER_VARIABLE", "DEFAULT_START_SECONDS"),
        *("EXIT_REASON_VARIABLE", "JOB_VARIABLE", "RESTART_VARIABLE", "START_SECONDS_VARIABLE"),
        *("JobStart", "cluster_from_environment", "data_workers"),
        *("environment_of_one_process", "notice_seconds_from_environment", "own_data_workers"),
        *("own_job_starts", "start_seconds_from_environment"),
    ),
    "strategies.cluster.environments.mpi": ("cluster_from_mpi", "mpi_environment", "parse_hosts"),
    "strategies.cluster.exit_reason": ("ExitReason", "read_exit_reason", "write_exit_reason"),
    "strategies.cluster.server_probe": ("TaskProbe",),
    # Messages between workers.
    "strategies.coordination.heartbeats": ("HeartbeatBoard",),
    "strategies.coordination.preemption_consensus": ("PreemptionNotice",),
    "strategies.coordination.rendezvous": ("exchange", "worker_index"),
    "strategies.keras_support.workers.state_agreement": ("broadcast_state",),
    # Progress of this worker and of the others.
    "strategies.progress": (
        *("Progress", "at_end_of_fit", "moved", "phase", "timed_progress", "watch"),
    ),
    "strategies.keras_support.patching.step_clock": ("attach_clock",),
    "strategies.keras_support.asynchronous.reports": ("task_probe",),
    "strategies.liveness.heartbeat": ("Heartbeat", "LocalHeartbeat", "ObservedWorker"),
    "strategies.liveness.peers": ("Peers",),
    "strategies.liveness.blocking_workers": ("stalled_workers",),
    "strategies.liveness.task_notice": ("state_of_tasks",),
    # Kinds of strategies, and the devices under them.
    "strategies.keras_support.patching.ownership": (
        "is_asynchronous",
        "is_multi_worker",
        "is_on_server",
        "is_owned",
    ),
    "strategies.devices": ("all_on",),
    "strategies.tpu.cpu_stand_in": ("TpuStandIn",),
    # Batches, and the position of `fit` in its input.
    "strategies.batch_parts": ("Shared", "named_parts", "spec_with_rows", "static_rows"),
    "strategies.global_batches": (
        *("EvenReplicaBatch", "GlobalBatches", "PaddedReplicaBatch", "ReplicaBatch"),
        *("counted_replica_batches", "own_rows", "replica_batches", "replica_batch_bounds"),
    ),
    "strategies.keras_support.input.resume": ("FitInput", "end_resumption"),
    # Inside a training step.
    "strategies.keras_support.context.over_replicas": (
        "all_gather",
        "mean_over_replicas",
        "ratio_over_replicas",
        "sum_over_replicas",
    ),
    "strategies.keras_support.context.packs": ("packs",),
    "strategies.keras_support.context.step_context": ("current_step",),
    "strategies.keras_support.gradients.gradient_watch": ("VERDICTS", "GradientWatch", "Trouble"),
    "strategies.keras_support.gradients.tape_gradients": ("local_gradients",),
    "strategies.keras_support.gradients.update_norms": ("UpdateNorms",),
    "strategies.keras_support.gradients.update_rules": ("written_by_rules",),
    "strategies.keras_support.gradients.weight_clusters": ("WeightClusters",),
    "strategies.keras_support.gradients.weight_masks": ("MaskRule", "WeightMasks"),
    "strategies.keras_support.metrics.metric_combination": ("combined_by",),
    "strategies.keras_support.local_sgd": (
        *("LocalTraining", "trace_step_again", "trains_on_one_replica"),
    ),
    "strategies.keras_support.asynchronous.executions": ("wait_until_idle",),
    # A model's parts, and its variables on each replica.
    "strategies.keras_support.model.model_parts": (
        *("all_layers", "compile_arguments", "copy_trainable", "direct_layers", "loss_in"),
        *("names_dtype", "optimized_variables", "own_state", "own_weights", "schedule_of"),
    ),
    "strategies.keras_support.model.recomputed_layers": (
        "recomputation_of",
        "restore_recomputation",
        "set_recomputed",
    ),
    "strategies.keras_support.model.outside_scope": ("refuse_model_outside",),
    "strategies.keras_support.model.replica_values": (
        "assign_replica_values",
        "assign_value",
        "is_per_replica",
        "replica_values",
    ),
    "strategies.keras_support.state.random_state": ("RandomState",),
    "strategies.keras_support.state.variables": ("floats_read_as",),
    "strategies.keras_support.sharding.backward_gathers": ("ONLY_SHAPE",),
    "strategies.keras_support.sharding.cuts": ("cuts_for",),
    "strategies.keras_support.sharding.sharded_value": ("is_sharded",),
    "strategies.keras_support.sharding.stages": ("stage_of",),
    "strategies.keras_support.sharding.whole_values": ("whole_value",),
    # The stages of a pipeline.
    "strategies.keras_support.pipeline.chunk_layer": ("call_of_node",),
    "strategies.keras_support.pipeline.model_cut": (
        "graph_of",
        "inputs_of",
        "nodes_in_order",
        "places_to_cut",
        "through_graph",
    ),
    "strategies.keras_support.pipeline.noted_units": ("noted_units",),
    "strategies.keras_support.pipeline.pipelined_model": ("pipeline_of", "train_as_pipeline"),
    "strategies.keras_support.pipeline.schedule": (
        "SCHEDULES",
        "Timeline",
        "Unit",
        "bubble_by_formula",
        "device_orders",
        "timeline",
    ),
    "strategies.keras_support.pipeline.shared_weights": ("owners",),
    "strategies.keras_support.pipeline.staged_steps": ("training_step_of",),
    "strategies.keras_support.placement.replica_devices": (
        "devices_by_replica",
        "plan_devices",
        "planned_place",
    ),
    # Layers divided over the devices of a replica.
    "strategies.keras_support.tensor.divided_layers": (
        "axis_of",
        "devices_per_replica",
        "divide_block",
        "divide_layer",
        "kernel_of",
    ),
    "strategies.keras_support.tensor.parts": (
        "divided_weights",
        "is_divided",
        "owns",
        "whole_weights",
    ),
    "strategies.half_precision_outputs": ("outputs_in_half_precision", "warn_of_half_precision"),
    # The patches of Keras, the private symbols in use, and a step traced without training.
    "strategies.keras_support.installation": (
        "changes_by_need",
        "support",
        "support_shared_parts",
    ),
    "strategies.keras_support.patching.patch": ("Patch",),
    "strategies.keras_support.patching.private_keras": ("KERAS_SYMBOLS",),
    "strategies.keras_support.patching.needs": ("Need",),
    "strategies.keras_support.patching.private_symbol": ("PrivateSymbol",),
    "strategies.keras_support.patching.private_tensorflow": ("TENSORFLOW_SYMBOLS",),
    "strategies.keras_support.defects.table": ("FIXES",),
    "strategies.keras_support.step.tracing": (
        "TracedStep",
        "needed_operations",
        "traced_forward_pass",
        "traced_train_step",
    ),
    "strategies.keras_support.step.train_function": (
        "last_execution_size",
        "remake_train_function",
    ),
    "strategies.keras_support.step.microbatch_count": (
        "fit_in_microbatches",
        "train_in_microbatches",
    ),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
