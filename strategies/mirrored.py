"""Several replicas in one process: on the GPUs, or logical CPUs, of one host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from strategies.announcement import announce
from strategies.arguments import SHARD_CURE, sequence, text, whole_number
from strategies.coordination.collective_keys import own_collective_keys, reuse_keys
from strategies.devices import check_all_reduce, cpu_devices, gpu_devices
from strategies.keras_support import support
from strategies.keras_support.placement.replica_devices import record_devices

_CROSS_DEVICE_OPS: dict[str, Callable[[], tf.distribute.CrossDeviceOps | None]] = {
    "auto": lambda: None,
    "nccl": tf.distribute.NcclAllReduce,
    "hierarchical_copy": tf.distribute.HierarchicalCopyAllReduce,
    "reduction_to_one_device": tf.distribute.ReductionToOneDevice,
}

_MOST_CPUS = 1024


def mirrored_strategy(
    num_replicas: int | None = None,
    *,
    devices: Sequence[str] | None = None,
    all_reduce: str = "auto",
    logical_devices_per_gpu: int | None = None,
    shard: int = 0,
    devices_per_replica: int = 1,
) -> tf.distribute.MirroredStrategy:
    """Builds a strategy that keeps one replica of the model on each of several devices of a host.

    The replicas use the GPUs of the host. On a host without a GPU the CPU is split into
    `num_replicas` logical CPUs. They share the cores, so this is for trying things out.

    Args:
        num_replicas: Number of replicas, on the first GPUs. Positive. None takes all GPUs, or one
            CPU if there is no GPU.
        devices: The devices to use instead, such as `("GPU:0", "GPU:2")`.
        all_reduce: How gradients are reduced. "auto" is NCCL between GPUs and a ring between CPUs;
            "nccl", "hierarchical_copy" and "reduction_to_one_device" are TensorFlow's
            `tf.distribute.CrossDeviceOps`.
        logical_devices_per_gpu: Virtual GPUs made from each GPU, to try several replicas on one.
        shard: What the replicas keep parts of, instead of copies (ZeRO, arXiv 1910.02054): 0
            nothing, 1 the slots of optimizers, 2 also gradients, 3 also parameters.
        devices_per_replica: Devices of each replica, for the stages of a `tfscale.parallel`
            pipeline. Replica 0 has the first ones, replica 1 the next, and so on. Positive.

    Returns:
        A `tf.distribute.MirroredStrategy` under which Keras trains as on one device.

    Raises:
        ValueError: If there are fewer devices than replicas, or an argument is invalid.
        RuntimeError: If TensorFlow has already started with too few logical devices.

    Example:
        >>> strategy = mirrored_strategy(num_replicas=2)
        >>> strategy.num_replicas_in_sync
        2
    """
    for name, value in (
        ("num_replicas", num_replicas),
        ("logical_devices_per_gpu", logical_devices_per_gpu),
    ):
        if value is not None:
            whole_number(name, value, cure="Leave it out for the devices of the host.")
    shard = whole_number("shard", shard, at_least=0, below=4, cure=SHARD_CURE)
    several = whole_number(
        "devices_per_replica", devices_per_replica, cure="Pass 1 for one device for each replica."
    )
    if devices is not None:
        devices = [text("devices", each) for each in sequence("devices", devices)]
        wanted = None if num_replicas is None else num_replicas * several
        every, reason = _named(devices, wanted), "as named"
    else:
        every, reason = _found(num_replicas, logical_devices_per_gpu, several)
    if len(every) % several:
        raise ValueError(
            f"`devices_per_replica` must divide {len(every)}, the number of devices. Received: "
            f"devices_per_replica={several} for {', '.join(every)}. Name the devices, or pass "
            "`num_replicas`."
        )
    chosen = every[::several]
    check_all_reduce(all_reduce, tuple(_CROSS_DEVICE_OPS), chosen)
    each = f", {several} devices each" if several > 1 else ""
    announce(f"{len(chosen)} mirrored replicas on {', '.join(every)} ({reason}){each}.")
    with own_collective_keys(tf.distribute.MirroredStrategy):
        cross_device_ops = _CROSS_DEVICE_OPS[all_reduce]()
        strategy = tf.distribute.MirroredStrategy(chosen, cross_device_ops=cross_device_ops)
    reuse_keys(strategy)
    if several > 1:
        others = [every[i + 1 : i + several] for i in range(0, len(every), several)]
        record_devices(strategy, others)
    return support(strategy, shard)


def _named(devices: Sequence[str], num_replicas: int | None) -> list[str]:
    chosen = [name.removeprefix("/").removeprefix("device:").upper() for name in devices]
    if num_replicas is not None and num_replicas != len(chosen):
        raise ValueError(
            f"`num_replicas` times `devices_per_replica` must be {len(chosen)}, the number of "
            f"`devices`. Received: {num_replicas} in all. Leave `num_replicas` out."
        )
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"`devices` must name different devices. Received: devices={tuple(devices)!r}."
        )
    cpus = [name for name in chosen if name.startswith("CPU:")]
    known = [*gpu_devices(), *cpu_devices(max(1, len(cpus)))]
    for name in chosen:
        if name not in known:
            raise ValueError(
                f"`devices` must be devices of this host. Received: {name!r}. Choose from "
                f"{', '.join(known)}."
            )
    return chosen


def _found(
    num_replicas: int | None, logical_devices_per_gpu: int | None, several: int
) -> tuple[list[str], str]:
    gpus = gpu_devices(logical_devices_per_gpu)
    if not gpus and logical_devices_per_gpu is not None:
        raise ValueError(
            "`logical_devices_per_gpu` must be None on a host without a GPU. Received: "
            f"logical_devices_per_gpu={logical_devices_per_gpu}. Ask for `num_replicas` logical "
            "CPUs instead."
        )
    if not gpus:
        count = (num_replicas or 1) * several
        if count > _MOST_CPUS:
            raise ValueError(
                f"`num_replicas` must be at most {_MOST_CPUS // several} on a host without a GPU. "
                f"Received: num_replicas={num_replicas}. Logical CPUs share the processor."
            )
        return cpu_devices(count)[:count], "this host has no GPU"
    wanted = None if num_replicas is None else num_replicas * several
    if wanted is not None and wanted > len(gpus):
        raise ValueError(
            f"`num_replicas` must be at most {len(gpus) // several}, the GPUs of this host"
            f"{f' by {several}' if several > 1 else ''}. Received: "
            f"num_replicas={num_replicas}. Ask for fewer, or make virtual GPUs with "
            "`logical_devices_per_gpu`."
        )
    return gpus[:wanted], "all GPUs" if wanted is None else "the first GPUs"
