"""Cloud TPU: refused at once where there is none, because TensorFlow takes minutes to notice."""

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
    """Builds a strategy whose replicas stand on the cores of a Cloud TPU.

    Build it first thing in the program, and once: initialising a TPU again loses the variables on
    it. Not run on a TPU: nobody on this project has had one. Finding it, refusing and giving up are
    tested; what Keras does under it is not, though the fixes are installed.

    Args:
        tpu: "local" for the TPU of the VM this runs on; otherwise its name, or the `grpc://`
            addresses of its hosts. A slice of several VMs goes by its name, from one of them.
        bring_up_seconds: How long finding and initialising may take before this process ends with
            a message. Positive. None takes TFSCALE_START_SECONDS, or 300.

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
                f"`tpu` could not be initialised. Received: tpu={tpu!r}: {_said(error)} Look "
                "whether another process holds it (sudo lsof -w /dev/accel* /dev/vfio/*), and "
                "whether this container was given the device."
            ) from error
        strategy = tf.distribute.TPUStrategy(resolver)
    announce(
        f"{strategy.num_replicas_in_sync} replicas on the TPU {tpu!r}, initialised in "
        f"{time.monotonic() - began:.0f} s. This project has not run on a TPU."
    )
    return support(strategy)


def has_local_tpu() -> bool:
    """Tells, without asking TensorFlow, whether this host looks like a Cloud TPU VM."""
    has_file = any(Path(name).exists() for name in _DEVICE_FILES)
    return has_file or own_tpu_environment() is not None


def automatic_tpu() -> str | None:
    """Returns the TPU that this process was given, as `tpu_strategy` takes it, or None.

    The VM's own; on one VM of several that make a slice, the slice that the environment names.
    """
    if not has_local_tpu():
        return None
    environment = own_tpu_environment()
    is_alone = environment is None or environment.num_hosts == 1
    return "local" if is_alone else named_tpu(os.environ) or "local"


def _refuse_missing(tpu: str) -> None:
    if not isinstance(tpu, str) or not tpu.strip():
        raise ValueError(
            "`tpu` must be local, a TPU's name or its address. Received: "
            f"tpu={tpu!r}. On a Cloud TPU VM use 'local'."
        )
    if tpu != "local":
        return
    if not has_local_tpu():
        raise ValueError(
            "`tpu` must name a TPU where this host has none. Received: tpu='local', but no "
            "TPU_WORKER_ID, TPU_WORKER_HOSTNAMES or TPU_ACCELERATOR_TYPE is set, and there is no "
            f"{' or '.join(_DEVICE_FILES)}. Run on a Cloud TPU VM, or use "
            "`mirrored_strategy` or `one_device_strategy`."
        )
    environment = own_tpu_environment()
    if environment is not None and environment.num_hosts > 1:
        raise ValueError(
            f"`tpu` must be the name of the slice where {environment.num_hosts} VMs make one: "
            "TensorFlow trains on all of them from one process. Received: tpu='local', on worker "
            f"{environment.worker_id} of {', '.join(environment.worker_hostnames)}. Run on worker "
            "0 alone, with TPU_LOAD_LIBRARY=0 and the slice's name."
        )


def _said(error: Exception) -> str:
    """What an error says, without the places in TensorFlow's graph."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    is_place = re.compile(r"\s*File |.*Graph execution error|Detected at node|\s*$").match
    lines = [line.strip() for line in text.splitlines() if not is_place(line)]
    return f"{type(error).__name__}: {' '.join(lines)[:400].rstrip('.')}."
