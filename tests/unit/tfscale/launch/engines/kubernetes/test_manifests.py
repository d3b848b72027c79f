"""The manifests, and the pods that Kubernetes makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strategies.extension import cluster_from_environment
from tests.engines.kubernetes.broken_manifests import NAME, healthy
from tfscale.launch.engines import JobRequest
from tfscale.launch.engines.job_record import new_record
from tfscale.launch.engines.kubernetes import Kubernetes
from tfscale.launch.engines.kubernetes.controllers import expanded, pods_of
from tfscale.launch.engines.kubernetes.pod_template import escaped


def request(**changed: Any) -> JobRequest:
    command = ("python", "train.py")
    values: dict[str, Any] = {"command": command, "name": "digits", "num_workers": 2}
    options = {"image": "digits:1", **changed.pop("options", {})}
    return JobRequest(**{**values, **changed, "options": options})


def submission(**changed: Any) -> str:
    asked = request(**changed)
    return str(Kubernetes().submission(asked, new_record(asked, "kubernetes", Path("/jobs"))))


def test_pods_of_all_roles_read_one_cluster_and_find_themselves_in_it() -> None:
    pods = pods_of(healthy(num_ps=2))
    clusters = [cluster_from_environment(pod.environment()) for pod in pods]
    tasks = [(c.task_type, c.task_index, c.address) for c in clusters if c]
    assert tasks == [
        ("ps", 0, f"{NAME}-ps-0-0.{NAME}:2222"),
        ("ps", 1, f"{NAME}-ps-0-1.{NAME}:2222"),
        ("worker", 0, f"{NAME}-worker-0-0.{NAME}:2222"),
        ("worker", 1, f"{NAME}-worker-0-1.{NAME}:2222"),
        ("chief", 0, f"{NAME}-chief-0-0.{NAME}:2222"),
    ]


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        ("jobset", f"{NAME}-worker-0-1.{NAME}:2222"),
        ("job", f"{NAME}-1.{NAME}:2222"),
        ("trainjob", f"{NAME}-node-0-1.{NAME}:2222"),
    ],
)
def test_a_worker_has_the_address_and_the_files_of_its_index(kind: str, host: str) -> None:
    pod = pods_of(healthy(kind))[1]
    environment = pod.environment()
    cluster = cluster_from_environment(environment)
    assert cluster is not None
    assert (cluster.num_workers, cluster.address) == (2, host)
    assert environment["TFSCALE_JOB_ID"] == NAME
    assert environment["TFSCALE_EXIT_REASON"] == "/shared/logs/worker-1.attempt-0.error.json"
    assert environment["NOTE"] == "$(nothing) $$"  # as it was given
    assert pod.command() == [
        *("python", "-m", "tfscale.launch.engines.kubernetes.pod_output"),
        *("/shared/logs/worker-1.attempt-0.log", "--", "python", "train.py", "--note=$(date)"),
    ]
    assert pod.container["resources"]["limits"] == {
        "cpu": "4",
        "memory": "32Gi",
        "nvidia.com/gpu": "1",
    }


@pytest.mark.parametrize("kind", ["jobset", "job", "trainjob"])
def test_a_later_start_is_counted(kind: str) -> None:
    starts = [pods_of(healthy(kind), restart=n)[0].environment() for n in (0, 1, 11)]
    assert [int(start["TFSCALE_RESTART"]) for start in starts] == [0, 1, 11]


def test_data_workers_serve_on_the_next_port_and_have_no_gpu() -> None:
    pods = pods_of(healthy(num_data_workers=2))
    served = f"{NAME}-data-0-0.{NAME}:2223,{NAME}-data-0-1.{NAME}:2223"
    assert {pod.environment()["TFSCALE_DATA_WORKERS"] for pod in pods} == {served}
    data = pods[1].environment()
    assert (data["TFSCALE_DATA_WORKER"], data["CUDA_VISIBLE_DEVICES"]) == ("1", "")
    assert "nvidia.com/gpu" not in pods[1].container["resources"]["limits"]
    cluster = cluster_from_environment(data)
    assert cluster is not None
    assert cluster.num_workers == 1


def test_no_gpus_are_hidden_and_asked_for_by_no_pod() -> None:
    pod = pods_of(healthy(gpus_per_worker=0))[0]
    assert pod.environment()["CUDA_VISIBLE_DEVICES"] == ""
    assert set(pod.container["resources"]["limits"]) == {"cpu", "memory"}
    assert "CUDA_VISIBLE_DEVICES" not in pods_of(healthy(gpus_per_worker=None))[0].environment()


def test_without_restarts_the_first_failure_is_the_end() -> None:
    (job_set,) = healthy(max_restarts=None)
    assert "failurePolicy" not in job_set["spec"]
    assert "podFailurePolicy" not in job_set["spec"]["replicatedJobs"][0]["template"]["spec"]


def test_with_a_chief_a_worker_comes_back_by_itself_and_a_server_does_not() -> None:
    (job_set,) = healthy(num_ps=1)
    ps, worker, chief = (j["template"]["spec"] for j in job_set["spec"]["replicatedJobs"])
    assert (worker["backoffLimitPerIndex"], worker["maxFailedIndexes"]) == (3, 0)
    assert (ps["backoffLimit"], chief["backoffLimit"]) == (0, 0)
    assert job_set["spec"]["successPolicy"]["targetReplicatedJobs"] == ["chief"]
    depends = [j.get("dependsOn", [{}])[0].get("name") for j in job_set["spec"]["replicatedJobs"]]
    assert depends == [None, "ps", "worker"]


@pytest.mark.parametrize("text", ["$(A)", "$$", "$$(A)", "$A ${A} $(A $", "a$$$(B)$(", "plain"])
def test_kubernetes_passes_an_escaped_text_on_as_it_was(text: str) -> None:
    assert expanded(escaped(text), {"A": "1", "B": "2"}) == text


def test_a_dry_run_shows_the_manifest_and_the_command() -> None:
    shown = submission(options={"namespace": "ml", "context": "east"})
    assert shown.startswith("# manifest.yaml\napiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\n")
    assert shown.endswith(
        "\nkubectl --context=east --namespace=ml --request-timeout=30s create "
        "--filename=manifest.yaml --output=name"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_ps": 1, "num_data_workers": 1}, r"`num_data_workers` must be 0 with --num_ps"),
        (
            {"num_ps": 1, "options": {"kind": "job"}},
            r"`num_ps` must be 0 with kind=job.*Received: num_ps=1\. Use --option kind=jobset",
        ),
        (
            {"num_data_workers": 2, "options": {"kind": "trainjob"}},
            r"`num_data_workers` must be 0 with kind=trainjob",
        ),
        (
            {"max_restarts": 3, "options": {"kind": "job"}},
            r"`max_restarts` must be 0 with kind=job.*Received: max_restarts=3",
        ),
        (
            {"log_dir": Path("/logs")},
            r"`log_dir` must be in a volume.*'/logs'.*claim|claim.*'/logs'",
        ),
        (
            {"log_dir": Path("/logs"), "options": {"claim": "c"}},
            r"`log_dir` must be below /shared.*Example: --log_dir=/shared/logs",
        ),
        (
            {"memory": 2**30, "options": {"shared_memory": "2GiB"}},
            r"shared_memory=\.\.\.` must be less than --memory",
        ),
        ({"early_seconds": 5.0}, r"`early_seconds` must be left out.*early_seconds=5\."),
        ({"environment": {"TF_CONFIG": "{}"}}, r"`env` must not contain TF_CONFIG"),
        (
            {"environment": {"TFSCALE_RESTART": "7"}},
            r"`env` must not contain TFSCALE_RESTART, which the job sets itself",
        ),
        ({"name": "a-name-that-is-as-long-as-names-may-be-x"}, r"names: pod .*shorter --job_name"),
    ],
)
def test_what_kubernetes_cannot_do_is_refused_by_name(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        submission(**changed)
