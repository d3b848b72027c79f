"""TensorFlow's TPU resolver against a metadata server and an API on this host."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from strategies.tpu.resolver import addresses_of, tpu_resolver
from tests.unit.strategies.tpu.tpu_services import Services, tpu_services

pytestmark = pytest.mark.own_process


def node(state: str, *hosts: str) -> dict[str, Any]:
    return {
        "state": state,
        "networkEndpoints": [{"ipAddress": host, "port": 8470} for host in hosts],
    }


NODES = {
    "ready": node("READY", "10.0.0.2"),
    "pod": node("READY", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"),
    "creating": node("CREATING"),
    "preempted": node("PREEMPTED", "10.0.0.2"),
}


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with tpu_services(NODES) as services:
        yield services


def test_the_tpu_of_this_vm_has_no_address() -> None:
    assert addresses_of(tpu_resolver("local")) == []


def test_a_name_is_looked_up_in_the_project_and_zone_of_this_vm(services: Services) -> None:
    services.asked.clear()
    resolver = tpu_resolver("ready", service=services.api)
    assert addresses_of(resolver) == ["10.0.0.2:8470"]
    assert resolver.master() == "grpc://10.0.0.2:8470"
    assert services.asked[:3] == [
        "/computeMetadata/v1/project/project-id",
        "/computeMetadata/v1/instance/zone",
        "/v1/projects/a-project/locations/a-zone/nodes/ready",
    ]


def test_a_pod_of_four_has_four_addresses_in_order(services: Services) -> None:
    resolver = tpu_resolver("pod", service=services.api)
    assert addresses_of(resolver) == [f"10.0.0.{last}:8470" for last in (2, 3, 4, 5)]


def test_addresses_are_taken_as_they_are_without_a_request(services: Services) -> None:
    services.asked.clear()
    resolver = tpu_resolver("grpc://10.0.0.2:8470,grpc://10.0.0.3:8470")
    assert addresses_of(resolver) == ["10.0.0.2:8470", "10.0.0.3:8470"]
    assert services.asked == []


def test_a_tpu_that_is_being_created_is_not_ready(services: Services) -> None:
    message = "`tpu` must be ready. Received: tpu='creating'.*CREATING.*Wait until `gcloud"
    with pytest.raises(RuntimeError, match=message):
        tpu_resolver("creating", service=services.api)


def test_a_preempted_tpu_does_not_come_back(services: Services) -> None:
    with pytest.raises(RuntimeError, match=r"tpu='preempted'.*PREEMPTED.*delete it and create a"):
        tpu_resolver("preempted", service=services.api)


def test_an_unknown_name_is_an_error_with_the_answer(services: Services) -> None:
    message = "`tpu` must name a TPU of this project.*tpu='missing'.*404.*gcloud compute tpus"
    with pytest.raises(ValueError, match=message):
        tpu_resolver("missing", service=services.api)


def test_a_name_outside_of_google_cloud_is_an_error(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{closed.getsockname()[1]}")
        message = "`tpu` must be a name on a VM of Google Cloud.*the metadata server did not answer"
        with pytest.raises(ValueError, match=message):
            tpu_resolver("ready", service=services.api)


def test_without_the_api_packages_the_cure_is_not_the_one_that_breaks_tensorflow() -> None:
    if not all(map(importlib.util.find_spec, ("googleapiclient", "oauth2client"))):
        message = "pip install google-api-python-client oauth2client .not cloud-tpu-client"
        with pytest.raises(ValueError, match=message):
            tpu_resolver("ready")
