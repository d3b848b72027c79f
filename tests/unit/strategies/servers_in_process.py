"""A parameter server strategy whose two workers and one server run in this process."""

from __future__ import annotations

import atexit
import os

import tensorflow as tf

import strategies
from tests.ports import free_ports

# At exit TensorFlow would wait for the servers, which never end.
SERVERS: list[tf.distribute.Server] = []


def with_servers() -> tf.distribute.Strategy:
    """Starts the servers and returns the strategy; once in a process."""
    chief, *tasks = (f"127.0.0.1:{port}" for port in free_ports(4))
    jobs = {"chief": (chief,), "worker": tuple(tasks[:2]), "ps": tuple(tasks[2:])}
    os.environ["GRPC_FAIL_FAST"] = "use_caller"
    # Workers in one process share its threads, and wait for each other if there are few.
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=8)
    spec = tf.train.ClusterSpec({job: list(hosts) for job, hosts in jobs.items()})
    for job, index in (("worker", 0), ("worker", 1), ("ps", 0)):
        SERVERS.append(tf.distribute.Server(spec, job, index, protocol="grpc", config=config))
    atexit.register(os._exit, 0)
    return strategies.parameter_server_strategy(strategies.Cluster(jobs, "chief", 0))
