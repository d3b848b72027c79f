"""Chooses a strategy: from the environment and the devices, or by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.arguments import one_of
from strategies.cluster.environments import cluster_from_environment
from strategies.devices import gpu_devices
from strategies.mirrored import mirrored_strategy
from strategies.multi_worker_mirrored import multi_worker_mirrored_strategy
from strategies.one_device import one_device_strategy
from strategies.parameter_server import parameter_server_strategy
from strategies.tpu.strategy import automatic_tpu, tpu_strategy


def auto_strategy() -> tf.distribute.Strategy:
    """Builds the strategy that uses all devices of this process, and prints what it chose.

    It takes the first of: the TPU of a Cloud TPU VM, or the slice the VM belongs to (TPU_NAME); the
    cluster of the environment (TF_CONFIG, Slurm, MPI, Kubernetes) if it has more than one worker;
    all GPUs; the CPU.

    In a worker or a parameter server of a cluster with parameter servers this call does not return:
    the task serves the chief and then ends the process. See `parameter_server_strategy`.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: If the environment describes an impossible cluster.
        SystemExit: In a worker or a parameter server, when the chief has ended.

    Example:
        >>> auto_strategy().num_replicas_in_sync >= 1
        True
    """
    tpu = automatic_tpu()
    if tpu is not None:
        return tpu_strategy(tpu)
    cluster = cluster_from_environment()
    if cluster is not None and cluster.num_parameter_servers:
        return parameter_server_strategy(cluster)
    if cluster is not None and cluster.num_workers > 1:
        return multi_worker_mirrored_strategy(cluster)
    if len(gpu_devices()) > 1:
        return mirrored_strategy()
    return one_device_strategy()


STRATEGIES: dict[str, Callable[..., tf.distribute.Strategy]] = {
    "auto": auto_strategy,
    "one_device": one_device_strategy,
    "mirrored": mirrored_strategy,
    "multi_worker_mirrored": multi_worker_mirrored_strategy,
    "parameter_server": parameter_server_strategy,
    "tpu": tpu_strategy,
}


def strategy_by_name(name: str, **arguments: Any) -> tf.distribute.Strategy:
    """Builds a strategy by its name, such as the value of a flag.

    Args:
        name: A key of `STRATEGIES`.
        **arguments: Arguments of the factory of that strategy.

    Raises:
        ValueError: If the name is unknown, or the factory does not take an argument.

    Example:
        >>> strategy_by_name("mirrored", num_replicas=2).num_replicas_in_sync
        2
    """
    one_of("name", name, STRATEGIES)
    factory = STRATEGIES[name]
    accepted = inspect.signature(factory).parameters
    for argument in arguments:
        if argument not in accepted:
            raise ValueError(
                f"`{argument}` must not be passed to the strategy {name!r}. Received: "
                f"{argument}={arguments[argument]!r}. It takes: {', '.join(accepted) or 'nothing'}."
            )
    return factory(**arguments)
