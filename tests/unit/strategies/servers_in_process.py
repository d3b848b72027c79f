"""A parameter server strategy whose two workers and one server run in this process."""

from __future__ import annotations

import atexit
import os
import socket

import tensorflow as tf

import strategies

# At exit TensorFlow would wait for the servers, which never end.
SERVERS: list[tf.distribute.Server] = []


def with_servers() -> tf.distribute.Strategy:
    """Starts the servers and returns the strategy; once in a process."""
    with socket.socket() as a, socket.socket() as b, socket.socket() as c, socket.socket() as d:
        for each in (a, b, c, d):
            each.bind(("127.0.0.1", 0))
        chief, *tasks = (f"127.0.0.1:{each.getsockname()[1]}" for each in (a, b, c, d))
    jobs = {"chief": (chief,), "worker": tuple(tasks[:2]), "ps": tuple(tasks[2:])}
    os.environ["GRPC_FAIL_FAST"] = "use_caller"
    # Workers in one process share its threads, and wait for each other if there are few.
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=8)
    spec = tf.train.ClusterSpec({job: list(hosts) for job, hosts in jobs.items()})
    for job, index in (("worker", 0), ("worker", 1), ("ps", 0)):
        SERVERS.append(tf.distribute.Server(spec, job, index, protocol="grpc", config=config))
    atexit.register(os._exit, 0)
    return strategies.parameter_server_strategy(strategies.Cluster(jobs, "chief", 0))
