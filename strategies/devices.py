"""The devices that replicas stand on: physical ones, and logical ones made from them.

TensorFlow lets a CPU or GPU be cut into logical devices only before its first use, and says so in
words about contexts. Here a cell that is run twice works, and anything else gets the cure.
"""

from __future__ import annotations

import tensorflow as tf


def cpu_devices(count: int) -> list[str]:
    """Returns the logical CPUs, cutting the host's CPU into `count` where there are fewer.

    Args:
        count: Logical devices there must be. Positive.

    Raises:
        RuntimeError: If TensorFlow has started already, with fewer logical CPUs.

    Example:
        >>> cpu_devices(2)
        ['CPU:0', 'CPU:1']
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    if _configured(cpu) < count:
        _configure(cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(count)])
    return [f"CPU:{i}" for i in range(_configured(cpu))]


def gpu_devices(logical_devices_per_gpu: int | None = None) -> list[str]:
    """Returns the GPUs, with memory growth on, each cut into virtual GPUs when asked for.

    Memory growth lets several processes share a GPU; a virtual GPU gets an equal part of its
    memory instead. NCCL does not work between virtual GPUs, so TensorFlow reduces over a ring.
    Not run on a GPU.

    Args:
        logical_devices_per_gpu: Virtual GPUs made of each GPU, or None for the GPUs themselves.

    Raises:
        RuntimeError: If TensorFlow has started already with another number of virtual GPUs.
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
    """How many logical devices `device` is or will be cut into; one where nobody asked."""
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
            f"a TensorFlow that already runs with {_configured(device)} on {device.name}. Build the"
            " strategy first, before any tensor, variable or model; in a notebook, restart the "
            "kernel."
        ) from error


def _grow_memory(gpu: tf.config.PhysicalDevice) -> None:
    if _configured(gpu) > 1 or tf.config.experimental.get_memory_growth(gpu):
        return
    try:
        tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        # TensorFlow has started: its memory is laid out, and trains as well as it would have.
        return


def all_stand_on(kind: str, strategy: tf.distribute.Strategy) -> bool:
    """Tells whether every replica of this process stands on a device of one kind.

    Args:
        kind: A TensorFlow device type, "CPU" or "GPU".
        strategy: The strategy whose replicas they are.
    """
    devices = [tf.DeviceSpec.from_string(name) for name in strategy.extended.worker_devices]
    return all(device.device_type == kind for device in devices)
