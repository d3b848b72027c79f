"""Sets the precision that a model computes in, once for all replicas.

tfscale.set_precision("auto", strategy)    # before the model is built
"""

from __future__ import annotations

import keras
import tensorflow as tf

from strategies import is_chief
from strategies.extension import all_on, announce, exchange, is_multi_worker, one_of
from tfscale.precision_choice import PrecisionChoice, WorkerAnswer, agreed

__all__ = ["POLICIES", "choose_precision", "set_precision"]

POLICIES = ("auto", "float64", "float32", "mixed_bfloat16", "mixed_float16")


def set_precision(
    precision: str = "auto", strategy: tf.distribute.Strategy | None = None
) -> keras.DTypePolicy:
    """Sets Keras's global dtype policy and returns it.

    "auto" chooses mixed_bfloat16 on TPUs and on GPUs of compute capability 8.0 or more,
    mixed_float16 on GPUs of compute capability 7.x (Keras adds dynamic loss scaling when the model
    is compiled), and float32 elsewhere, because a CPU gains nothing from half precision. It prints
    the choice and the reason. "float64" also makes float64 Keras's default float type, so that
    losses and metrics use it; it is meant for comparing whole runs. The choices for GPU and TPU are
    not yet verified on such devices.

    With several workers, all of them must call this with the same `precision`, and in the same
    order as their other calls to tfscale. The weakest worker's devices decide for all.

    Args:
        precision: One of `POLICIES`.
        strategy: The strategy whose devices "auto" looks at. None looks at all devices of this
            process and does not contact other workers.

    Returns:
        The global `keras.DTypePolicy` from now on.

    Raises:
        ValueError: If `precision` is not one of `POLICIES`, or differs between workers.

    Example:
        >>> set_precision("mixed_bfloat16").compute_dtype
        'bfloat16'
    """
    choice = choose_precision(precision, strategy)
    if precision == "auto" and (strategy is None or is_chief(strategy)):
        announce(f"precision {choice.policy} ({choice.reason}).")
    keras.config.set_floatx("float64" if choice.policy == "float64" else "float32")
    keras.config.set_dtype_policy(choice.policy)
    return keras.config.dtype_policy()


def choose_precision(
    precision: str = "auto", strategy: tf.distribute.Strategy | None = None
) -> PrecisionChoice:
    """Returns what `set_precision` would set, and why, without setting it.

    With several workers, all of them must call this together, like `set_precision`.

    Args:
        precision: One of `POLICIES`.
        strategy: The strategy whose devices "auto" looks at. None looks at all devices.

    Raises:
        ValueError: If `precision` is not one of `POLICIES`, or differs between workers.

    Example:
        >>> choose_precision("float32")
        PrecisionChoice(policy='float32', reason='as asked')
    """
    one_of("precision", precision, POLICIES, cure="Use 'auto' to follow the hardware.")
    if strategy is None or not is_multi_worker(strategy):
        return agreed([_answer("this process", precision, strategy)])
    resolver = strategy.cluster_resolver
    own = _answer(f"{resolver.task_type} {resolver.task_id}", precision, strategy)
    return agreed(
        [WorkerAnswer.from_json(text) for text in exchange(strategy, "precision", own.to_json())]
    )


def _answer(worker: str, precision: str, strategy: tf.distribute.Strategy | None) -> WorkerAnswer:
    if strategy is not None and all_on("TPU", strategy):
        return WorkerAnswer(worker, precision, "TPU")
    gpus = _gpus(strategy)
    if gpus:
        return WorkerAnswer(worker, precision, "GPU", _lowest_capability(gpus))
    has_tpu = strategy is None and bool(tf.config.list_physical_devices("TPU"))
    return WorkerAnswer(worker, precision, "TPU" if has_tpu else "CPU")


def _gpus(strategy: tf.distribute.Strategy | None) -> list[tf.config.PhysicalDevice]:
    """Returns the GPUs of this process's replicas, or an empty list if any replica uses a CPU."""
    physical = tf.config.list_physical_devices("GPU")
    if strategy is None:
        return list(physical)
    logical = [  # a GPU that is split into virtual devices appears once for each of them
        gpu for gpu in physical for _ in tf.config.get_logical_device_configuration(gpu) or [None]
    ]
    devices = [tf.DeviceSpec.from_string(name) for name in strategy.extended.worker_devices]
    if any(device.device_type != "GPU" for device in devices):
        return []
    return [logical[device.device_index] for device in devices]


def _lowest_capability(gpus: list[tf.config.PhysicalDevice]) -> tuple[int, int] | None:
    found = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus
    ]
    return None if None in found else min(found)
