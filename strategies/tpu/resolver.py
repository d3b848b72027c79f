"""Looks up a TPU with TensorFlow's resolver, and turns its errors into ones that name the cure."""

from __future__ import annotations

import importlib.util
from typing import Any

import tensorflow as tf

_LOST = ("PREEMPTED", "TERMINATED")
_API_PACKAGES = ("googleapiclient", "oauth2client")


def tpu_resolver(
    tpu: str, *, service: Any = None
) -> tf.distribute.cluster_resolver.TPUClusterResolver:
    """Looks up a TPU without initialising it.

    A name is looked up in the Cloud TPU API; the metadata server of this VM gives project and zone.
    For a TPU of several VMs the resolver has the addresses of all of them.

    Args:
        tpu: "local", a name, or `grpc://` addresses with commas between them.
        service: A Cloud TPU API client of googleapiclient. None builds one.

    Raises:
        ValueError: If the API does not know the TPU, or cannot be reached.
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
            f"Cloud TPU API answers: {_api_answer(error)}. List them: gcloud compute tpus tpu-vm "
            "list --zone=ZONE."
        ) from error
    except RuntimeError as error:
        cure = (
            "It was preempted and does not come back: delete it and create a new one."
            if any(state in str(error) for state in _LOST)
            else "Wait until `gcloud compute tpus tpu-vm describe NAME --zone=ZONE` says READY."
        )
        message = f"`tpu` must be ready. Received: tpu={tpu!r}: {error}. {cure}"
        raise RuntimeError(message) from error
    return resolver


def addresses_of(resolver: tf.distribute.cluster_resolver.TPUClusterResolver) -> list[str]:
    """Returns `host:port` of every TPU host, in order; [] for the TPU of this VM."""
    return [
        address for addresses in resolver.cluster_spec().as_dict().values() for address in addresses
    ]


def _require_api_packages(tpu: str) -> None:
    missing = [name for name in _API_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        # TensorFlow advises cloud-tpu-client, which downgrades protobuf and so breaks TensorFlow.
        raise ValueError(
            "`tpu` must be 'local' or an address without a client of the Cloud TPU API. Received: "
            f"tpu={tpu!r} without {' and '.join(missing)}. Run pip install "
            "google-api-python-client oauth2client (not cloud-tpu-client: it breaks TensorFlow)."
        )


def _api_answer(error: Exception) -> str:
    return " ".join(str(error).rpartition("Exception: ")[2].split()) or type(error).__name__
