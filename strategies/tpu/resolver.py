"""Where a TPU is: TensorFlow's own resolver, with its errors turned into what to do about them."""

from __future__ import annotations

import importlib.util
from typing import Any

import tensorflow as tf

_LOST = ("PREEMPTED", "TERMINATED")
_API_PACKAGES = ("googleapiclient", "oauth2client")


def tpu_resolver(
    tpu: str, *, service: Any = None
) -> tf.distribute.cluster_resolver.TPUClusterResolver:
    """Finds a TPU without touching it.

    A name is looked up in the Cloud TPU API, its project and zone in the metadata server of this
    VM. A TPU on TPU hosts of several VMs comes with the addresses of all of them.

    Args:
        tpu: "local", a name, or `grpc://` addresses with commas between them.
        service: The Cloud TPU API as googleapiclient builds it. None builds it.

    Raises:
        ValueError: If the API knows no such TPU, or cannot be asked.
        RuntimeError: If the TPU is not ready.
    """
    resolver_class = tf.distribute.cluster_resolver.TPUClusterResolver
    if tpu == "local":
        return resolver_class(tpu="local")
    if not tpu.startswith("grpc://") and service is None:
        _require_api_packages(tpu)
    try:
        resolver = resolver_class(tpu=tpu, service=service)
        resolver.cluster_spec()  # asks the API, which the constructor does not
    except OSError as error:  # the metadata server
        raise ValueError(
            "`tpu` must be a name on a VM of Google Cloud, where project and zone are known. "
            f"Received: tpu={tpu!r}, and the metadata server did not answer ({error}). Run on such "
            "a VM, or give the TPU's address, such as grpc://10.0.0.2:8470."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"`tpu` must name a TPU of this project and zone. Received: tpu={tpu!r}, for which the "
            f"Cloud TPU API says: {_api_answer(error)}. List them: gcloud compute tpus tpu-vm list "
            "--zone=ZONE."
        ) from error
    except RuntimeError as error:
        cure = (
            "It was taken away and does not come back: delete it and create it again."
            if any(state in str(error) for state in _LOST)
            else "Wait until `gcloud compute tpus tpu-vm describe NAME --zone=ZONE` says READY."
        )
        said = f"`tpu` must be ready. Received: tpu={tpu!r}: {error}. {cure}"
        raise RuntimeError(said) from error
    return resolver


def addresses_of(resolver: tf.distribute.cluster_resolver.TPUClusterResolver) -> list[str]:
    """Returns `host:port` of every TPU host, in their order; empty for this VM's own TPU."""
    return [
        address for addresses in resolver.cluster_spec().as_dict().values() for address in addresses
    ]


def _require_api_packages(tpu: str) -> None:
    missing = [name for name in _API_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        # TensorFlow advises cloud-tpu-client, which downgrades protobuf and so breaks TensorFlow.
        raise ValueError(
            "`tpu` must be local or an address where the Cloud TPU API cannot be asked. Received: "
            f"tpu={tpu!r} without {' and '.join(missing)}. Run pip install "
            "google-api-python-client oauth2client (not cloud-tpu-client: it breaks TensorFlow)."
        )


def _api_answer(error: Exception) -> str:
    return " ".join(str(error).rpartition("Exception: ")[2].split()) or type(error).__name__
