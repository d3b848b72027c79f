"""The devices of replicas, physical and logical, and the all-reduce between them.

TensorFlow can split a CPU or GPU into logical devices only before its first use, and its error
speaks of contexts. Here a notebook cell that is run twice works, and other errors name the cure.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf

from strategies.arguments import one_of

_THREADS_VARIABLE = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's own, for threads that were not set


def cpu_devices(count: int) -> list[str]:
    """Returns the logical CPUs, and splits the host's CPU into `count` if there are fewer.

    The threads of an operation are divided too, unless they were set before. TensorFlow would give
    each operation as many threads as there are cores, also if `count` operations run at once: on 2
    cores, a step of two replicas of an MLP then takes a third more processor time.

    Args:
        count: Logical devices needed. Positive.

    Raises:
        RuntimeError: If TensorFlow has already started with fewer logical CPUs.

    Example:
        >>> cpu_devices(2)
        ['CPU:0', 'CPU:1']
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    if _configured(cpu) < count:
        _configure(cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(count)])
        is_set = tf.config.threading.get_intra_op_parallelism_threads()
        if not is_set and _THREADS_VARIABLE not in os.environ:
            threads = max(1, _usable_cores() // count)
            tf.config.threading.set_intra_op_parallelism_threads(threads)
    return [f"CPU:{i}" for i in range(_configured(cpu))]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_devices(logical_devices_per_gpu: int | None = None) -> list[str]:
    """Returns the GPUs, with memory growth on, or split into virtual GPUs.

    Memory growth lets several processes share a GPU. A virtual GPU gets an equal part of its
    memory instead. NCCL does not work between virtual GPUs, so TensorFlow reduces over a ring.
    Not yet verified on a GPU.

    Args:
        logical_devices_per_gpu: Virtual GPUs made from each GPU, or None for the GPUs themselves.

    Raises:
        RuntimeError: If TensorFlow has already started with another number of virtual GPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if logical_devices_per_gpu is None:
        for gpu in gpus:
            _grow_memory(gpu)
        return [f"GPU:{i}" for i in range(sum(_configured(gpu) for gpu in gpus))]
    for gpu in gpus:
        if _configured(gpu) == logical_devices_per_gpu:
            continue
        total = tf.config.experimental.get_device_details(gpu).get("memory_limit_mb", 4096)
        part = tf.config.LogicalDeviceConfiguration(memory_limit=total // logical_devices_per_gpu)
        _configure(gpu, [part] * logical_devices_per_gpu)
    return [f"GPU:{i}" for i in range(len(gpus) * logical_devices_per_gpu)]


def _configured(device: tf.config.PhysicalDevice) -> int:
    """Returns how many logical devices `device` is or will be split into; 1 by default."""
    return len(tf.config.get_logical_device_configuration(device) or [None])


def _configure(
    device: tf.config.PhysicalDevice, parts: list[tf.config.LogicalDeviceConfiguration]
) -> None:
    try:
        tf.config.set_logical_device_configuration(device, parts)
    except RuntimeError as error:
        kind = device.device_type
        raise RuntimeError(
            f"{len(parts)} logical {kind} devices must be made before TensorFlow starts. Received: "
            f"TensorFlow, already started with {_configured(device)} on {device.name}. Build the"
            " strategy first, before any tensor, variable or model. In a notebook, restart the "
            "kernel."
        ) from error


def _grow_memory(gpu: tf.config.PhysicalDevice) -> None:
    if _configured(gpu) > 1 or tf.config.experimental.get_memory_growth(gpu):
        return
    try:
        tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        # TensorFlow has started and its memory is allocated; training works the same.
        return


def all_on(device_type: str, strategy: tf.distribute.Strategy) -> bool:
    """Returns whether every replica of this process is on a device of one type.

    Args:
        device_type: A TensorFlow device type, "CPU" or "GPU".
        strategy: The strategy of the replicas.
    """
    devices = [tf.DeviceSpec.from_string(name) for name in strategy.extended.worker_devices]
    return all(device.device_type == device_type for device in devices)


def check_all_reduce(all_reduce: str, accepted: Sequence[str], devices: Sequence[str]) -> None:
    """Checks the name of an all-reduce implementation, before TensorFlow sees it.

    Args:
        all_reduce: The name to check.
        accepted: The names that the strategy accepts.
        devices: The devices it reduces over.

    Raises:
        ValueError: If `all_reduce` is not accepted, or is "nccl" without GPUs.
    """
    cure = "Use 'auto' unless a measurement says otherwise."
    one_of("all_reduce", all_reduce, accepted, cure=cure)
    if all_reduce == "nccl" and not all("GPU:" in name for name in devices):
        raise ValueError(
            "`all_reduce` must not be 'nccl' without GPUs: NCCL reduces between GPUs only. "
            f"Received: all_reduce='nccl' for {', '.join(devices)}. Use 'auto'."
        )
