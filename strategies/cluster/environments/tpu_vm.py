"""Recognises a Cloud TPU VM by its environment variables; nothing is initialised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strategies.cluster.environments.variables import integer_variable

_WORKER_ID = "TPU_WORKER_ID"
_HOSTNAMES = "TPU_WORKER_HOSTNAMES"
_ACCELERATOR_TYPE = "TPU_ACCELERATOR_TYPE"
# In the order in which TensorFlow's resolver looks.
_NAMES = ("KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS", "TPU_NAME")


@dataclass(frozen=True)
class TpuEnvironment:
    """The TPU slice of this VM, as the environment describes it.

    Attributes:
        accelerator_type: For instance "v4-8"; empty if unknown.
        worker_id: The index of this VM among the VMs of the slice, from 0.
        worker_hostnames: The VMs of the slice in that order; empty if unknown.
    """

    accelerator_type: str
    worker_id: int
    worker_hostnames: tuple[str, ...]

    @property
    def num_hosts(self) -> int:
        """VMs of the slice; 1 if the environment names no others."""
        return max(1, len(self.worker_hostnames))


def tpu_environment(environ: Mapping[str, str]) -> TpuEnvironment | None:
    """Returns the TPU VM that `environ` describes, or None if it describes none.

    It is recognised by TPU_WORKER_ID, TPU_WORKER_HOSTNAMES or TPU_ACCELERATOR_TYPE; an empty value
    counts as unset. The variables are also set in a container without the TPU device, so a caller
    still looks for `/dev/accel*` or `/dev/vfio`. Only initialising the TPU shows whether it works.

    Args:
        environ: The environment.

    Raises:
        ValueError: If TPU_WORKER_ID is not the index of one of TPU_WORKER_HOSTNAMES.

    Example:
        >>> tpu_environment({"TPU_ACCELERATOR_TYPE": "v4-8", "TPU_WORKER_ID": "0"}).num_hosts
        1
    """
    if not any(environ.get(name) for name in (_WORKER_ID, _HOSTNAMES, _ACCELERATOR_TYPE)):
        return None
    listed = environ.get(_HOSTNAMES, "")
    hostnames = tuple(name.strip() for name in listed.split(",")) if listed else ()
    if not all(hostnames) or len(set(hostnames)) != len(hostnames):
        raise ValueError(
            f"`{_HOSTNAMES}` must be different names, separated by commas. "
            f"Received: {_HOSTNAMES}={listed!r}. Unset it on a single TPU VM."
        )
    cure = f"Set it to the index of this VM in {_HOSTNAMES}, from 0."
    worker_id = 0
    if environ.get(_WORKER_ID) or len(hostnames) > 1:
        worker_id = integer_variable(environ, _WORKER_ID, minimum=0, cure=cure)
    if hostnames and worker_id >= len(hostnames):
        raise ValueError(
            f"`{_WORKER_ID}` must be below {len(hostnames)}, the number of {_HOSTNAMES}. "
            f"Received: {_WORKER_ID}={worker_id}. {cure}"
        )
    return TpuEnvironment(environ.get(_ACCELERATOR_TYPE, ""), worker_id, hostnames)


def named_tpu(environ: Mapping[str, str]) -> str | None:
    """Returns the name or addresses of the TPU in `environ`, or None.

    Args:
        environ: The environment.

    Example:
        >>> named_tpu({"TPU_NAME": "my-slice"})
        'my-slice'
    """
    return next((environ[name] for name in _NAMES if environ.get(name)), None)
