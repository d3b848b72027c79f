"""Asynchronous training: workers train one model, whose variables are on parameter servers."""

from __future__ import annotations

import os

import tensorflow as tf

from strategies.announcement import announce
from strategies.cluster.cluster import Cluster, require_cluster
from strategies.cluster.environments import cluster_from_environment
from strategies.cluster.startup_deadline import cluster_deadline, start_seconds
from strategies.cluster.task_server import serve_until_chief_ends
from strategies.keras_support import support


def parameter_server_strategy(
    cluster: Cluster | None = None, *, bring_up_seconds: float | None = None
) -> tf.distribute.ParameterServerStrategy:
    """Builds a strategy whose workers train one model, each at its own pace.

    Use it if workers differ in speed or come and go, and for tables larger than one machine. Each
    worker takes steps independently: it reads the variables from the servers, computes the gradient
    of its batch and applies it, while others do the same. So gradients are stale by the steps that
    others applied meanwhile, and no two runs are the same. See
    docs/howto/parameter_servers.md.

    Every task runs the same program. The chief continues after this call: it builds the model,
    calls `fit` and schedules the steps. In a worker or a parameter server this call does not
    return: it serves the chief, and ends the process with status 0 (SystemExit) when the chief has
    ended. So build the strategy at the start of the program. TensorFlow's servers listen on all
    interfaces without authentication, so run a cluster in a closed network.

    Args:
        cluster: The cluster, with this task; it has one chief, workers and parameter servers. None
            reads it from TF_CONFIG in the environment.
        bring_up_seconds: How long the chief waits for the others, before its process ends with a
            message that names the missing ones; also how long they wait for the chief. Positive.
            None takes the value of `tfscale launch --start_seconds`, or 300.

    Returns:
        A `tf.distribute.ParameterServerStrategy` under which Keras trains asynchronously.

    Raises:
        ValueError: If the cluster lacks a chief, a worker or a parameter server, or an argument is
            invalid.
        NotImplementedError: If a worker has several GPUs.
        SystemExit: In a worker or a parameter server: 0 when the chief has ended, 1 if it did not
            start.

    Example:
        >>> # In each task: tfscale launch --num_workers=2 --num_ps=1 -- python train.py
        >>> strategy = parameter_server_strategy()  # doctest: +SKIP

    Source: Li et al. 2014, "Scaling Distributed Machine Learning with the Parameter Server", OSDI.
    """
    bring_up_seconds = start_seconds(bring_up_seconds)
    cluster = cluster_from_environment() if cluster is None else require_cluster(cluster)
    _refuse_incomplete(cluster)
    assert cluster is not None
    # Otherwise a call to a task that is gone blocks instead of failing, and nothing recovers.
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    if cluster.task_type != "chief":
        serve_until_chief_ends(cluster, bring_up_seconds)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({job: list(hosts) for job, hosts in cluster.jobs.items()}),
        task_type=cluster.task_type,
        task_id=cluster.task_index,
        rpc_layer="grpc",
    )
    announce(
        f"{len(cluster.jobs['worker'])} worker(s) train asynchronously with "
        f"{cluster.num_parameter_servers} parameter server(s), from "
        f"{cluster.source or 'the argument `cluster`'}; this is the chief."
    )
    with cluster_deadline(cluster, bring_up_seconds):
        strategy = tf.distribute.ParameterServerStrategy(resolver)
    if strategy.num_replicas_in_sync > 1:
        raise NotImplementedError(
            "A worker of `parameter_server_strategy` must have at most one GPU. Received: workers "
            f"with {strategy.num_replicas_in_sync}. Start one worker for each GPU, with "
            "CUDA_VISIBLE_DEVICES set to it."
        )
    return support(strategy)


def _refuse_incomplete(cluster: Cluster | None) -> None:
    for job, name in (("ps", "parameter server"), ("chief", "chief"), ("worker", "worker")):
        if cluster is None or job not in cluster.jobs:
            raise ValueError(
                f"`cluster` must have at least one {name}, a task of the job {job!r}. Received: "
                f"cluster={cluster!r}. Start the program with `tfscale launch --num_workers=2 "
                "--num_ps=1 -- COMMAND`, describe the cluster in TF_CONFIG, or train synchronously "
                "with `multi_worker_mirrored_strategy`."
            )
    assert cluster is not None
    if cluster.task_type not in ("chief", "worker", "ps"):
        raise ValueError(
            "`cluster` must make this task a chief, a worker or a parameter server. Received: "
            f"task_type={cluster.task_type!r}. An evaluator reads checkpoints, under another "
            "strategy."
        )
