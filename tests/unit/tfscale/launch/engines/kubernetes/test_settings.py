"""The options of the Kubernetes engine."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tfscale.launch.engines.kubernetes.settings import Settings, settings_of

IMAGE = {"image": "registry.example:5000/team/digits@sha256:abc"}


def test_all_options_are_read() -> None:
    options = IMAGE | {
        "kind": "trainjob",
        "namespace": "ml",
        "node_selector": "cloud.google.com/gke-accelerator=nvidia-l4,disk=ssd",
        "tolerations": "gpu,team=vision,nvidia.com/gpu=present:NoSchedule,spot:NoExecute",
        "shared_memory": "8GiB",
        "claim": "training",
        "mount": "/data",
        "port": "3333",
        "run_as": "1000",
    }
    assert settings_of(options) == Settings(
        image=IMAGE["image"],
        kind="trainjob",
        namespace="ml",
        node_selector={"cloud.google.com/gke-accelerator": "nvidia-l4", "disk": "ssd"},
        tolerations=(
            {"key": "gpu", "operator": "Exists"},
            {"key": "team", "operator": "Equal", "value": "vision"},
            {
                "key": "nvidia.com/gpu",
                "operator": "Equal",
                "value": "present",
                "effect": "NoSchedule",
            },
            {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
        ),
        shared_memory=8 * 2**30,
        claim="training",
        mount=PurePosixPath("/data"),
        port=3333,
        run_as=(1000, 1000),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"`--option image=\.\.\.` must name a container image.*Example"),
        (IMAGE | {"kind": "pod"}, r"kind=.*one of jobset, job, trainjob.*'pod'"),
        (IMAGE | {"gpu": "1"}, r"must be one of image, kind.*Received: gpu='1'"),
        (IMAGE | {"mount": "/data"}, r"must come with a claim.*Add --option claim=NAME"),
        (IMAGE | {"claim": "c", "mount": "data"}, r"an absolute path.*'data'"),
        (IMAGE | {"claim": "c", "mount": "/a/../b"}, r"an absolute path"),
        (IMAGE | {"namespace": "Team"}, r"a name of Kubernetes.*'Team'"),
        (IMAGE | {"node_selector": "disk"}, r"LABEL=VALUE, with commas"),
        (IMAGE | {"node_selector": "a=b,"}, r"LABEL=VALUE, with commas"),
        (IMAGE | {"tolerations": "gpu:Never"}, r"EFFECT is NoSchedule or PreferNoSchedule"),
        (IMAGE | {"tolerations": "a b"}, r"KEY\[=VALUE\]\[:EFFECT\]"),
        (IMAGE | {"shared_memory": "8"}, r"shared_memory=\.\.\.` must be a positive size"),
        (IMAGE | {"port": "80"}, r"an integer in \[1024, .*'80'"),
        (IMAGE | {"port": "65535"}, r"an integer in"),
        (IMAGE | {"run_as": "root"}, r"UID or UID:GID"),
        ({"image": "my image"}, r"a container image.*'my image'"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name_and_cure(
    options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        settings_of(options)
