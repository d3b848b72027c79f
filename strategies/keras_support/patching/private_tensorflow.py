"""Private symbols of TensorFlow that are called, not replaced; see `private_symbol`.

The sources of TensorFlow 2.20, 2.21 and 2.22 are accepted. One fingerprint is that of all of them.
"""

from __future__ import annotations

from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_symbol import used

_STRATEGY_EXTENDED_V2 = "tensorflow.python.distribute.distribute_lib:StrategyExtendedV2"
_MIRRORED_EXTENDED = "tensorflow.python.distribute.mirrored_strategy:MirroredExtended"
_COLLECTIVE = "tensorflow.python.distribute.collective_all_reduce_strategy"
_COLLECTIVE_EXTENDED = f"{_COLLECTIVE}:CollectiveAllReduceExtended"
_COLLECTIVE_STRATEGY = f"{_COLLECTIVE}:CollectiveAllReduceStrategy"
_DISTRIBUTED_VARIABLE = "tensorflow.python.distribute.values:DistributedVariable"
_PARAMETER_SERVER = "tensorflow.python.distribute.parameter_server_strategy_v2"
_PARAMETER_SERVER_EXTENDED = f"{_PARAMETER_SERVER}:ParameterServerStrategyV2Extended"
_PARAMETER_SERVER_STRATEGY = f"{_PARAMETER_SERVER}:ParameterServerStrategyV2"
_CONTEXT = "tensorflow.python.eager.context:Context"
_DATASET_V2 = "tensorflow.python.data.ops.dataset_ops:DatasetV2"
_FUNCTION = "tensorflow.python.eager.polymorphic_function.polymorphic_function:Function"
_AGGREGATING_VARIABLE = "tensorflow.python.distribute.ps_values:AggregatingVariable"
_BASE_RESOURCE_VARIABLE = "tensorflow.python.ops.resource_variable_ops:BaseResourceVariable"
_RESOURCE_VARIABLE = "tensorflow.python.ops.resource_variable_ops:ResourceVariable"
_MIRRORED_STRATEGY = "tensorflow.python.distribute.mirrored_strategy:MirroredStrategy"
_COLLECTIVE_KEYS = "tensorflow.python.distribute.cross_device_utils:CollectiveKeys"
_COLLECTIVE_ALL_REDUCE = "tensorflow.python.distribute.cross_device_ops:CollectiveAllReduce"
_PARAMETER_SERVER_EXTENDED_V1 = (
    "tensorflow.python.distribute.parameter_server_strategy:ParameterServerStrategyExtended"
)
_COORDINATOR = "tensorflow.python.distribute.coordinator.cluster_coordinator"
_DISTRIBUTE_LIB = "tensorflow.python.distribute.distribute_lib"
_VALUES = "tensorflow.python.distribute.values"
_EAGER_CONTEXT = "tensorflow.python.eager.context"
_AG_CTX = "tensorflow.python.autograph.core.ag_ctx"
_OP_CALLBACKS = "tensorflow.python.framework.op_callbacks"
_CROSS_DEVICE_UTILS = "tensorflow.python.distribute.cross_device_utils"
_COORDINATOR_CONTEXT = "tensorflow.python.distribute.coordinator.coordinator_context"

TENSORFLOW_SYMBOLS = (
    *used(
        Need.TRAINING,
        "keras_support.state",
        "leaves a replica's step to make variables for all replicas",
        {
            f"{_DISTRIBUTE_LIB}:_push_per_thread_mode": "0043b6381835",
            f"{_DISTRIBUTE_LIB}:_pop_per_thread_mode": "9642559e2748",
            f"{_DISTRIBUTE_LIB}:_CrossReplicaThreadMode": "dc88f20306f9",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.patching",
        "whether a strategy has several workers",
        {
            f"{_STRATEGY_EXTENDED_V2}._in_multi_worker_mode": "720984bb63de",
            f"{_MIRRORED_EXTENDED}._in_multi_worker_mode": "2d4996f43a98",
            f"{_COLLECTIVE_EXTENDED}._in_multi_worker_mode": "37dfea944377",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.gradients",
        "lets a replica update its own copies where it is",
        {
            f"{_MIRRORED_EXTENDED}._use_merge_call": "387354122d62",
            f"{_COLLECTIVE_EXTENDED}._use_merge_call": "387354122d62",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.gradients keras_support.metrics keras_support.state",
        "lets a replica write its own copy",
        {
            f"{_DISTRIBUTED_VARIABLE}._aggregation": "7f53ea43cf28",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.gradients",
        "lets a worker write a variable on a server",
        {
            f"{_AGGREGATING_VARIABLE}._aggregation": "7f53ea43cf28",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.context keras_support.metrics",
        "this replica's copy of a variable",
        {
            f"{_DISTRIBUTED_VARIABLE}._get": "3bba417011d3",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.metrics",
        "all copies of a metric's variable",
        {
            f"{_VALUES}:DistributedValues._values": "10ca108fb58e",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.input",
        "the specification of one replica's batch",
        {
            f"{_VALUES}:PerReplicaSpec._value_specs": "9276cec4df5a",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.context",
        "recognises a variable in the graph of a step",
        {
            f"{_BASE_RESOURCE_VARIABLE}._handle": "d879190d7071",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.input keras_support.patching keras_support.state",
        "a variable that a strategy's scope does not copy",
        {
            f"{_RESOURCE_VARIABLE}.__init__": "2411bb7ac5a9",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.patching",
        "refuses variables of Keras 2",
        {
            f"{_STRATEGY_EXTENDED_V2}._create_variable": "29a552535f38",
            f"{_MIRRORED_EXTENDED}._create_variable": "e371b86f5ef6",
        },
    ),
    *used(
        Need.WORKERS,
        "keras_support.state",
        "sends the first values of small numbers between workers in a wider type",
        {
            f"{_COLLECTIVE_EXTENDED}._get_variable_creator_initial_value": "4e806287b96c",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.patching",
        "refuses variables of Keras 2",
        {
            f"{_PARAMETER_SERVER_EXTENDED}._create_variable": "0f881ce4c4bf",
        },
    ),
    *used(
        Need.TRAINING,
        "coordination",
        "a range of collective keys for each strategy",
        {
            f"{_MIRRORED_STRATEGY}._collective_key_base": "3e6b20062c02",
        },
    ),
    *used(
        Need.WORKERS,
        "coordination",
        "a range of collective keys for each strategy",
        {
            f"{_COLLECTIVE_STRATEGY}._collective_key_base": "3e6b20062c02",
        },
    ),
    *used(
        Need.TRAINING,
        "coordination",
        "takes the place of a strategy's launchers",
        {
            f"{_CROSS_DEVICE_UTILS}:CollectiveReplicaLauncher": "2b59f221eea3",
            f"{_COLLECTIVE_KEYS}.get_instance_key": "861b149137c8",
            f"{_COLLECTIVE_ALL_REDUCE}._launchers": "f10cbc5b29f4",
            f"{_MIRRORED_EXTENDED}._collective_ops": "95f1383efc94",
            f"{_MIRRORED_EXTENDED}._cross_device_ops": "ade040d4a272",
        },
    ),
    *used(
        Need.WORKERS,
        "coordination",
        "takes the place of a strategy's launchers",
        {
            f"{_COLLECTIVE_EXTENDED}._cross_device_ops": "5e813bbc17b2",
            f"{_COLLECTIVE_EXTENDED}._host_cross_device_ops": "75ca9515b1d4",
        },
    ),
    *used(
        Need.WORKERS,
        "coordination",
        "asks whether TensorFlow has ended the collectives of this process",
        {
            "tensorflow.python.ops.collective_ops:all_reduce_v2": "8363b70db520",
        },
    ),
    *used(
        Need.WORKERS,
        "coordination",
        "the limit of heartbeats",
        {
            "tensorflow.python.distribute.multi_worker_util:coordination_leader": "6445f914a836",
            f"{_CONTEXT}.configure_coordination_service": "c1dd03fba708",
            f"{_CONTEXT}.coordination_service": "2c98ed369a74",
        },
    ),
    *used(
        Need.TRAINING,
        "coordination keras_support.input",
        "the process's context, which has the coordination service",
        {
            f"{_EAGER_CONTEXT}:context": "9c8ccb6f8593",
        },
    ),
    *used(
        Need.WORKERS,
        "coordination",
        "what workers say to each other",
        {
            f"{_CONTEXT}.set_config_key_value": "73b191537802",
            f"{_CONTEXT}.get_config_key_value": "fa48b00f7c11",
            f"{_CONTEXT}.delete_config_key_value": "0ebaf2701031",
            f"{_CONTEXT}.report_error_to_cluster": "2adae5c734b1",
        },
    ),
    *used(
        Need.WORKERS,
        "coordination",
        "the global seed, and what operations without a seed draw from",
        {
            f"{_CONTEXT}._seed": "21515dec53b7",
            f"{_CONTEXT}._rng": "1e60649e9b8c",
        },
    ),
    *used(
        Need.TRAINING,
        "coordination keras_support.input",
        "the seed that the user has set",
        {
            f"{_EAGER_CONTEXT}:global_seed": "b213e0894456",
        },
    ),
    *used(
        Need.WORKERS,
        "coordination",
        "the seeds of a dataset's shuffles",
        {
            f"{_DATASET_V2}._as_serialized_graph": "6c4fc255050c",
        },
    ),
    *used(
        Need.TRAINING,
        "global_batches",
        "base class of a dataset with a named element",
        {
            "tensorflow.python.data.ops.dataset_ops:UnaryDataset.__init__": "4caaf94b6b23",
            f"{_DATASET_V2}._variant_tensor": "5153589bfe04",
        },
    ),
    *used(
        Need.INNER_FUNCTIONS,
        "keras_support.context",
        "traces a tf.function inside of a step in place",
        {
            f"{_FUNCTION}._jit_compile": "ec360506d739",
            f"{_FUNCTION}._autograph": "537dbd5a02cf",
            f"{_FUNCTION}._python_function": "b9e69170ac22",
            f"{_FUNCTION}._experimental_autograph_options": "3991a0d56530",
            f"{_AG_CTX}:ControlStatusCtx": "5c55c407d2f1",
            f"{_AG_CTX}:Status": "efeb0b802d95",
            "tensorflow.python.autograph.impl.api:convert": "cc269a7ee8a8",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.context",
        "follows what each tensor of an eager step depends on",
        {
            f"{_OP_CALLBACKS}:add_op_callback": "d9f0d0409c61",
            f"{_OP_CALLBACKS}:remove_op_callback": "d1c5aa054020",
        },
    ),
    *used(
        Need.RECOMPUTATION,
        "keras_support.gradients",
        "whether a tape records a tensor that a recomputed function uses",
        {
            "tensorflow.python.eager.record:should_record_backprop": "90833153a38f",
        },
    ),
    *used(
        Need.RECOMPUTATION,
        "keras_support.gradients",
        "whether a step is compiled by XLA",
        {
            "tensorflow.python.ops.control_flow_util:GraphOrParentsInXlaContext": "46de409789a5",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.gradients",
        "whether a tape is recording",
        {
            "tensorflow.python.eager.record:could_possibly_record": "2c2bd384639a",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.patching",
        "whether tf.timestamp is refused",
        {
            "tensorflow.python.framework.config:is_op_determinism_enabled": "8ca47c87f9bc",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.input",
        "leaves ragged and sparse parts as they are",
        {
            "tensorflow.python.framework.composite_tensor:CompositeTensor": "7c483620c3d2",
        },
    ),
    *used(
        Need.TRAINING,
        "batch_parts",
        "recognises None in a batch",
        {
            "tensorflow.python.framework.none_tensor:NoneTensorSpec": "491f42a279c1 187dee4c7c0c",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.installation keras_support.asynchronous",
        "the addresses of the tasks",
        {
            f"{_PARAMETER_SERVER_STRATEGY}._cluster_resolver": "4cad839aba8b",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.installation",
        "lets evaluate and predict run on the chief",
        {
            f"{_PARAMETER_SERVER_EXTENDED}._allow_run_without_coordinator": "1b39a0389174",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.asynchronous",
        "the number of workers",
        {
            f"{_PARAMETER_SERVER_EXTENDED}._num_workers": "60262a29b8f4",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.gradients",
        "updates variables from inside of a condition",
        {
            f"{_STRATEGY_EXTENDED_V2}._replica_ctx_update": "8c495061a8d3",
            f"{_PARAMETER_SERVER_EXTENDED_V1}._update": "aa39773d1f67",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.asynchronous",
        "hands out an execution that says when it ends",
        {
            f"{_COORDINATOR}:ClusterCoordinator._cluster": "ddaf662ea588",
            f"{_COORDINATOR}:Cluster.schedule": "82f19a276906",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.asynchronous",
        "the worker that runs an execution",
        {
            f"{_COORDINATOR_CONTEXT}:get_current_dispatch_context": "1e341b21b60d",
        },
    ),
    *used(
        Need.REPORTS,
        "tpu",
        "base class of the TPU's stand-in",
        {
            "tensorflow.python.distribute.one_device_strategy:OneDeviceExtended": "a4338614d697",
        },
    ),
    *used(
        Need.REPORTS,
        "tpu",
        "the strategy of a stand-in's variable",
        {
            f"{_STRATEGY_EXTENDED_V2}._container_strategy": "0d4f043346ad",
        },
    ),
)
"""All private symbols of TensorFlow in use, but for those of sharded state."""
