"""Energy, power and utilization of the GPUs of this process, by NVIDIA's management library.

    pip install 'tfscale[energy]'

Not run on a GPU.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

_UUID = "GPU-"


class Gpus:
    """Reads the GPUs that TensorFlow may use.

    Attributes:
        errors: Of the GPUs that the last `read` could not read, by their identity.

    Args:
        places: Their indices, as CUDA counts them in this process.
        visible: The environment variable CUDA_VISIBLE_DEVICES, or None.

    Raises:
        ValueError: If nvidia-ml-py is not installed, or it finds no driver, or not these GPUs.
    """

    def __init__(self, places: Sequence[int], visible: str | None) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise ValueError(
                "`energy` of GPUs needs nvidia-ml-py. Received: energy=True, without it. "
                "Install it: pip install 'tfscale[energy]'."
            ) from error
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            handles = [self._handle(name) for name in chosen(places, visible)]
            self._gpus = {_text(pynvml.nvmlDeviceGetUUID(handle)): handle for handle in handles}
        except pynvml.NVMLError as error:
            raise ValueError(
                f"`energy` of GPUs needs NVIDIA's driver. Received: energy=True, and NVML says: "
                f"{error}. Mount libnvidia-ml.so.1 into the container, or leave `energy` out."
            ) from error
        self._counters = {uuid: self._counter(handle) for uuid, handle in self._gpus.items()}
        now = time.monotonic()
        self._moments = dict.fromkeys(self._gpus, now)
        self.errors: dict[str, str] = {}

    def _handle(self, name: str) -> Any:
        if name.startswith(_UUID):
            return self._nvml.nvmlDeviceGetHandleByUUID(name)
        return self._nvml.nvmlDeviceGetHandleByIndex(int(name))

    def _counter(self, handle: Any) -> int | None:
        """Returns millijoules since the driver was loaded; None for GPUs older than Volta."""
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except self._nvml.NVMLError:
            return None

    def read(self) -> dict[str, dict[str, Any]]:
        """Returns what each GPU took since it was last read, by its identity."""
        now, found = time.monotonic(), {}
        self.errors = {}
        for uuid, handle in self._gpus.items():
            try:
                found[uuid] = self._taken(uuid, handle, now)
            except self._nvml.NVMLError as error:
                self.errors[uuid] = str(error)
            else:
                self._moments[uuid] = now
        return found

    def _taken(self, uuid: str, handle: Any, now: float) -> dict[str, Any]:
        nvml, before = self._nvml, self._counters[uuid]
        watts = nvml.nvmlDeviceGetPowerUsage(handle) / 1000
        percent = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        if before is not None:
            self._counters[uuid] = counter = int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
            taken = {"joules": (counter - before) / 1000, "source": "nvml"}
        else:
            seconds = now - self._moments[uuid]
            taken = {"joules": watts * seconds, "source": "estimate: nvml's newest power"}
        return {**taken, "watts": watts, "utilization": percent / 100}


def chosen(places: Sequence[int], visible: str | None) -> list[str]:
    """Returns the GPUs of a process as NVML knows them: an index of the host, or an identity.

    Both count in the same order if the GPUs are alike, or CUDA_DEVICE_ORDER is PCI_BUS_ID.

    Args:
        places: As CUDA counts them in this process.
        visible: CUDA_VISIBLE_DEVICES, or None.

    Raises:
        ValueError: If a GPU is a part of one (MIG), whose energy is not counted.

    Example:
        >>> chosen([0, 1], "3,GPU-8932f937"), chosen([1], None)
        (['3', 'GPU-8932f937'], ['1'])
    """
    names = None if visible is None else [name.strip() for name in visible.split(",")]
    found = [str(place) if names is None else names[place] for place in places]
    for name in found:
        if not re.fullmatch(rf"\d+|{_UUID}.+", name):
            raise ValueError(
                "`energy` needs whole GPUs. Received: energy=True with CUDA_VISIBLE_DEVICES="
                f"{visible!r}. NVML counts no energy of a part (MIG): leave `energy` out."
            )
    return found


def visible_gpus(environment: Mapping[str, str] = os.environ) -> Gpus | None:
    """Returns the GPUs that TensorFlow may use in this process, or None if there is none."""
    import tensorflow as tf

    devices = tf.config.get_visible_devices("GPU")
    places = [int(device.name.rpartition(":")[2]) for device in devices]
    return Gpus(places, environment.get("CUDA_VISIBLE_DEVICES")) if places else None


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name  # bytes before nvidia-ml-py 12
