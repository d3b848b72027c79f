"""Several processes, on one host or many, that train one model synchronously."""

from __future__ import annotations

import tensorflow as tf

from strategies.announcement import announce
from strategies.arguments import SHARD_CURE, whole_number
from strategies.cluster.cluster import Cluster, require_cluster
from strategies.cluster.environments import cluster_from_environment
from strategies.cluster.startup_deadline import (
    await_first_worker,
    cluster_deadline,
    start_seconds,
)
from strategies.collectives.engine import choose_engine
from strategies.coordination.collective_keys import own_collective_keys, reuse_keys
from strategies.coordination.heartbeats import configure_heartbeats
from strategies.devices import check_all_reduce, gpu_devices
from strategies.keras_support import support


def multi_worker_mirrored_strategy(
    cluster: Cluster | None = None,
    *,
    all_reduce: str = "auto",
    bring_up_seconds: float | None = None,
    shard: int = 0,
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Builds a strategy whose replicas use the devices of all workers of a cluster.

    Build it at the start of the program: TensorFlow starts its server here and waits for the other
    workers. Every worker runs the same program. TensorFlow's server listens on all interfaces
    without authentication, so run a cluster in a closed network.

    Args:
        cluster: The cluster, with this task. None reads it from the environment: TF_CONFIG, Slurm,
            MPI or Kubernetes.
        all_reduce: How gradients are reduced: "ring" (TensorFlow's, over gRPC), "nccl" (GPUs only),
            "mpi" (CPUs only, for workers that `tfscale launch`, mpiexec or mpirun started, with
            mpi4py installed) or "auto": NCCL between GPUs, and between CPUs MPI if every worker
            has it and it is faster, else the ring.
        bring_up_seconds: How long to wait for the other workers, before this process ends with a
            message that names the missing ones. Positive. None takes the value of `tfscale launch
            --start_seconds`, or 300.
        shard: What the replicas keep parts of, instead of copies (ZeRO, arXiv 1910.02054): 0
            nothing, 1 the slots of optimizers, 2 also gradients, 3 also parameters.

    Returns:
        A `tf.distribute.MultiWorkerMirroredStrategy` under which Keras trains as on one device.

    Raises:
        ValueError: If there is no cluster, this task does not train, or an argument is invalid.

    Example:
        >>> # In each process of a cluster: tfscale launch --num_workers=2 -- python train.py
        >>> strategy = multi_worker_mirrored_strategy()  # doctest: +SKIP
    """
    shard = whole_number("shard", shard, at_least=0, below=4, cure=SHARD_CURE)
    bring_up_seconds = start_seconds(bring_up_seconds)
    cluster = cluster_from_environment() if cluster is None else require_cluster(cluster)
    if cluster is None:
        raise ValueError(
            "`cluster` must be given if the environment describes none. Received: cluster=None, "
            "and no TF_CONFIG, Slurm step, MPI or Kubernetes variables. Start the program with "
            "`tfscale launch --num_workers=2 -- COMMAND`, or with the launcher of your cluster."
        )
    if cluster.task_type not in ("chief", "worker"):
        raise ValueError(
            "`cluster` must place this task among the workers. Received: "
            f"task_type={cluster.task_type!r}. Parameter servers belong to "
            "`parameter_server_strategy`."
        )
    gpus = gpu_devices()
    check_all_reduce(all_reduce, ("auto", "ring", "nccl", "mpi"), gpus or ["CPU:0"])
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation[
            "RING" if all_reduce == "mpi" else all_reduce.upper()
        ]
    )
    spec = tf.train.ClusterSpec({job: list(hosts) for job, hosts in cluster.jobs.items()})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec,
        task_type=cluster.task_type,
        task_id=cluster.task_index,
        rpc_layer="grpc",
    )
    if cluster.is_chief:
        announce(
            f"{cluster.num_workers} workers with {max(1, len(gpus))} replica(s) each, from "
            f"{cluster.source or 'the argument `cluster`'}; this is worker {cluster.worker_index}."
        )
    configure_heartbeats(spec)
    with (
        cluster_deadline(cluster, bring_up_seconds),
        own_collective_keys(tf.distribute.MultiWorkerMirroredStrategy),
    ):
        await_first_worker(cluster)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
        reuse_keys(strategy)
        choose_engine(strategy, all_reduce)
    return support(strategy, shard)
