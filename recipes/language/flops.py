"""How many operations a token needs, and how many the device can do: model FLOPs utilization.

    operations of a token = 6 N + 12 L H Q T

N are the parameters, L the layers, H the heads, Q the width of a head, T the length of a row. Each
parameter is used in a multiplication and an addition in the forward pass, and in twice as many in
the backward pass. Each of the T keys costs each head 2 Q operations forward and 4 Q backward, and
so does each value. The embedding counts once: its matrix makes the logits, and looking up a row
needs no operation. Causal attention counts as a whole, and recomputed activations do not count.

Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
"""

from __future__ import annotations

import time

import keras
import tensorflow as tf

from recipes.language.sizes import ModelSize

# A product of a millisecond: longer than the call, and short enough to find the cores of a host
# unused for once, if other programs use them too.
_CPU_MATRIX, _OTHER_MATRIX = 512, 8192
_SECONDS = 1.0


def flops_per_token(size: ModelSize, *, num_parameters: int, context: int) -> int:
    """Returns the floating-point operations of training on one token.

    Args:
        size: The size of the model.
        num_parameters: Its parameters. Positive.
        context: Tokens of a row. Positive.

    Example:
        >>> tiny = ModelSize(layers=4, width=128, heads=4)
        >>> flops_per_token(tiny, num_parameters=1_000_000, context=256)
        7572864
    """
    return 6 * num_parameters + 12 * size.layers * size.heads * size.head_width * context


def measured_peak(strategy: tf.distribute.Strategy) -> float:
    """Measures the operations a second that all replicas can do together: products of matrices.

    In the compute type of the global policy, see `tfscale.set_precision`.

    Replicas on the CPUs of a host share its cores, so they have the peak of one together.

    Args:
        strategy: The strategy that trains.

    Returns:
        Operations a second of the fastest of the products within a second.
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
        while time.monotonic() < ends:
            began = time.perf_counter()
            multiply().numpy()
            fastest = min(fastest, time.perf_counter() - began)
    num_replicas = strategy.num_replicas_in_sync
    count = num_replicas // len(devices) if is_cpu else num_replicas
    return float(2 * rows**3 / fastest * count)
