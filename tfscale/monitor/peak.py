"""How many floating-point operations a second the devices can do, measured."""

from __future__ import annotations

import time

import keras
import tensorflow as tf

# A product of a millisecond: longer than the call, and short enough to find the cores of a host
# unused for once, if other programs use them too.
_CPU_MATRIX, _OTHER_MATRIX = 512, 8192
_SECONDS = 1.0


def measured_peak(strategy: tf.distribute.Strategy) -> float:
    """Measures the operations a second that all replicas can do together: products of matrices.

    In the compute type of the global policy, see `tfscale.set_precision`.

    Replicas on the CPUs of a host share its cores, so they have the peak of one together.

    Args:
        strategy: The strategy that trains.

    Returns:
        Operations a second of the fastest of the products within a second.

    Example:
        >>> measured_peak(strategies.one_device_strategy()) > 1e6
        True
    """
    devices = [tf.DeviceSpec.from_string(name) for name in strategy.extended.worker_devices]
    local = devices[0].replace(job=None, replica=None, task=None).to_string()
    is_cpu = devices[0].device_type == "CPU"
    rows = _CPU_MATRIX if is_cpu else _OTHER_MATRIX
    with tf.device(local):
        normal = tf.random.stateless_normal([rows, rows], [0, 0])
        matrix = tf.cast(normal, keras.config.dtype_policy().compute_dtype)

        @tf.function(autograph=False)
        def multiply() -> tf.Tensor:
            return tf.reduce_sum(tf.matmul(matrix, matrix))

        multiply().numpy()
        fastest, ends = float("inf"), time.monotonic() + _SECONDS
        while fastest == float("inf") or time.monotonic() < ends:
            began = time.perf_counter()
            multiply().numpy()
            fastest = min(fastest, time.perf_counter() - began)
    num_replicas = strategy.num_replicas_in_sync
    count = num_replicas // len(devices) if is_cpu else num_replicas
    return float(2 * rows**3 / fastest * count)
