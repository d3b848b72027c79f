"""The three ways to run a reproducer, and how each makes its strategy."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable

import tensorflow as tf

from tests.defects.row import DEFAULT, MIRRORED, ONE_DEVICE, OURS, PARAMETER_SERVERS, WORKERS

NewStrategy = Callable[[], tf.distribute.Strategy]


def new_strategy(way: str, on: str) -> NewStrategy:
    """Returns the builder of the strategy; imports `strategies` only if the way is ours."""
    if way == ONE_DEVICE:
        default: NewStrategy = tf.distribute.get_strategy
        return default
    return (_ours() if way == OURS else _STOCK)[on]


def _ours() -> dict[str, NewStrategy]:
    import strategies

    def parameter_servers() -> tf.distribute.Strategy:
        jobs = {job: tuple(addresses) for job, addresses in _served_jobs().items()}
        cluster = strategies.Cluster(jobs, "chief", 0)
        return strategies.parameter_server_strategy(cluster, bring_up_seconds=60)

    mirrored = functools.partial(strategies.mirrored_strategy, num_replicas=2)
    return {
        MIRRORED: mirrored,
        DEFAULT: mirrored,
        WORKERS: functools.partial(strategies.multi_worker_mirrored_strategy, bring_up_seconds=60),
        PARAMETER_SERVERS: parameter_servers,
    }


def _two_cpus() -> tf.distribute.Strategy:
    if len(tf.config.get_logical_device_configuration(_cpu()) or ()) != 2:
        tf.config.set_logical_device_configuration(
            _cpu(), [tf.config.LogicalDeviceConfiguration()] * 2
        )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def _cpu() -> tf.config.PhysicalDevice:
    return tf.config.list_physical_devices("CPU")[0]


def _no_strategy_on_two_cpus() -> tf.distribute.Strategy:
    tf.config.set_logical_device_configuration(_cpu(), [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.get_strategy()


def _two_workers_and_a_server() -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(_served_jobs()), task_type="chief", task_id=0, rpc_layer="grpc"
    )
    return tf.distribute.ParameterServerStrategy(resolver)


def _served_jobs() -> dict[str, list[str]]:
    """Starts a cluster in this process; only the chief has no server at its address."""
    jobs = _jobs()
    spec = tf.train.ClusterSpec(jobs)
    # Workers of one process use the same threads, and wait for each other if these are few.
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=8)
    for job, index in (("worker", 0), ("worker", 1), ("ps", 0)):
        # Kept: TensorFlow blocks when a server is deleted.
        _SERVERS.append(tf.distribute.Server(spec, job, index, protocol="grpc", config=config))
    return jobs


def _jobs() -> dict[str, list[str]]:
    with socket.socket() as a, socket.socket() as b, socket.socket() as c, socket.socket() as d:
        for each in (a, b, c, d):
            each.bind(("127.0.0.1", 0))
        chief, first, second, server = (
            f"127.0.0.1:{each.getsockname()[1]}" for each in (a, b, c, d)
        )
    return {"chief": [chief], "worker": [first, second], "ps": [server]}


_SERVERS: list[tf.distribute.Server] = []

_STOCK: dict[str, NewStrategy] = {
    MIRRORED: _two_cpus,
    DEFAULT: _no_strategy_on_two_cpus,
    WORKERS: tf.distribute.MultiWorkerMirroredStrategy,
    PARAMETER_SERVERS: _two_workers_and_a_server,
}
