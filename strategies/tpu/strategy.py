"""The strategy for a Cloud TPU, with an error at once if there is none.

TensorFlow takes minutes to find out.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import tensorflow as tf

from strategies.announcement import announce
from strategies.cluster.environments import own_tpu_environment
from strategies.cluster.environments.tpu_vm import named_tpu
from strategies.cluster.startup_deadline import start_seconds, startup_deadline
from strategies.keras_support import support
from strategies.tpu.resolver import addresses_of, tpu_resolver

_DEVICE_FILES = ("/dev/accel0", "/dev/vfio/0")


def tpu_strategy(
    tpu: str = "local", *, bring_up_seconds: float | None = None
) -> tf.distribute.TPUStrategy:
    """Builds a strategy whose replicas run on the cores of a Cloud TPU.

    Build it at the start of the program, and only once: initialising a TPU a second time loses the
    variables on it. Not yet verified on a TPU. Look-up, errors and the deadline are tested; Keras
    under this strategy is not, although the fixes are installed.

    Args:
        tpu: "local" for the TPU of this VM; otherwise its name, or the `grpc://` addresses of its
            hosts. For a slice of several VMs pass its name, on one of them.
        bring_up_seconds: How many seconds look-up and initialisation may take, before this process
            ends with a message. Positive. None takes TFSCALE_START_SECONDS, or 300.

    Returns:
        A `tf.distribute.TPUStrategy`.

    Raises:
        ValueError: If there is no such TPU.
        RuntimeError: If it is not ready or cannot be initialised.

    Example:
        >>> # On a Cloud TPU VM:
        >>> strategy = tpu_strategy()  # doctest: +SKIP
    """
    bring_up_seconds = start_seconds(bring_up_seconds)
    _refuse_missing(tpu)
    began = time.monotonic()
    expired = (
        f"TPU {tpu!r} did not start within {bring_up_seconds:g} s (`bring_up_seconds`). Last "
        "phase: {phase}. Another process may use it (sudo lsof -w /dev/accel* /dev/vfio/*), or its "
        "VMs may be unreachable: gcloud compute tpus tpu-vm describe NAME --zone=ZONE."
    )
    with startup_deadline(f"TPU {tpu!r}", bring_up_seconds, expired=expired) as begin:
        begin("looking it up")
        resolver = tpu_resolver(tpu)
        addresses = addresses_of(resolver)
        if addresses:
            begin(f"connecting to {', '.join(addresses)}")
            tf.config.experimental_connect_to_cluster(resolver)
        begin("initialising it")
        try:
            # In this process and not in a probe: a TPU belongs to one process at a time.
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (tf.errors.OpError, RuntimeError) as error:
            raise RuntimeError(
                f"`tpu` could not be initialised. Received: tpu={tpu!r}: {_text(error)} Check "
                "whether another process uses it (sudo lsof -w /dev/accel* /dev/vfio/*), and "
                "whether this container has the device."
            ) from error
        strategy = tf.distribute.TPUStrategy(resolver)
    announce(
        f"{strategy.num_replicas_in_sync} replicas on the TPU {tpu!r}, initialised in "
        f"{time.monotonic() - began:.0f} s. tfscale is not yet verified on a TPU."
    )
    return support(strategy)


def has_local_tpu() -> bool:
    """Returns whether this host looks like a Cloud TPU VM, without starting TensorFlow."""
    has_file = any(Path(name).exists() for name in _DEVICE_FILES)
    return has_file or own_tpu_environment() is not None


def automatic_tpu() -> str | None:
    """Returns the TPU of this process, as an argument of `tpu_strategy`, or None.

    It is the TPU of this VM, or the slice named by the environment if the VM is one of several.
    """
    if not has_local_tpu():
        return None
    environment = own_tpu_environment()
    is_single = environment is None or environment.num_hosts == 1
    return "local" if is_single else named_tpu(os.environ) or "local"


def _refuse_missing(tpu: str) -> None:
    if not isinstance(tpu, str) or not tpu.strip():
        raise ValueError(
            "`tpu` must be 'local', a TPU's name or its address. Received: "
            f"tpu={tpu!r}. On a Cloud TPU VM use 'local'."
        )
    if tpu != "local":
        return
    if not has_local_tpu():
        raise ValueError(
            "`tpu` must name a TPU if this host has none. Received: tpu='local', but none of "
            "TPU_WORKER_ID, TPU_WORKER_HOSTNAMES and TPU_ACCELERATOR_TYPE is set, and there is no "
            f"{' or '.join(_DEVICE_FILES)}. Run on a Cloud TPU VM, or use "
            "`mirrored_strategy` or `one_device_strategy`."
        )
    environment = own_tpu_environment()
    if environment is not None and environment.num_hosts > 1:
        raise ValueError(
            f"`tpu` must be the name of the slice, which has {environment.num_hosts} VMs: "
            "TensorFlow trains on all of them from one process. Received: tpu='local', on worker "
            f"{environment.worker_id} of {', '.join(environment.worker_hostnames)}. Run on worker "
            "0 only, with TPU_LOAD_LIBRARY=0 and the name of the slice."
        )


def _text(error: Exception) -> str:
    """Returns the text of an error, without the places in TensorFlow's graph."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    is_place = re.compile(r"\s*File |.*Graph execution error|Detected at node|\s*$").match
    lines = [line.strip() for line in text.splitlines() if not is_place(line)]
    return f"{type(error).__name__}: {' '.join(lines)[:400].rstrip('.')}."
