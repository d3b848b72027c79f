"""Manifests with one mistake each, as people make them, and what rejects them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfscale.launch.engines import JobRequest
from tfscale.launch.engines.kubernetes.manifests import manifest
from tfscale.launch.engines.kubernetes.settings import settings_of

GRACE_SECONDS = 30.0
SCHEMA = "schema"
NAME = "digits-7f3a1b"

Document = dict[str, Any]
Kinds = dict[str, Document]


def healthy(kind: str = "jobset", *, name: str = NAME, **changed: Any) -> tuple[Document, ...]:
    """Returns a manifest that needs everything that a manifest can have."""
    request = JobRequest(
        **{
            "command": ("python", "train.py", "--note=$(date)"),
            "name": "digits",
            "num_workers": 2,
            "gpus_per_worker": 1,
            "cpus_per_worker": 4,
            "memory": 32 * 2**30,
            "time_limit": 3600.0,
            "max_restarts": 0 if kind == "job" else 3,
            "grace_seconds": GRACE_SECONDS,
            "log_dir": Path("/shared/logs"),
            "environment": {"NOTE": "$(nothing) $$"},
            **changed,
        }
    )
    options = {
        "image": "registry.example/digits:1",
        "kind": kind,
        "namespace": "training",
        "service_account": "trainer",
        "claim": "training",
        "node_selector": "disk=ssd",
        "tolerations": "nvidia.com/gpu:NoSchedule,team=vision",
        "run_as": "1000:1000",
        "pull_policy": "Always",
        "pull_secret": "registry",
    }
    return manifest(request, settings_of(options), name)


HEALTHY: dict[str, tuple[Document, ...]] = {
    "jobset": healthy(),
    "jobset, never restarted": healthy(max_restarts=None),
    "jobset with roles": healthy(num_ps=2),
    "jobset with data workers": healthy(num_data_workers=2),
    "jobset without volume": healthy(log_dir=None),
    "job": healthy("job"),
    "job, never restarted": healthy("job", max_restarts=None),
    "trainjob": healthy("trainjob"),
    "one worker": healthy(num_workers=1),
    "twelve workers": healthy(num_workers=12),
}
"""Manifests without a mistake."""


@dataclass(frozen=True)
class Broken:
    """A mistake.

    Attributes:
        mistake: What was done; the name of the case.
        found_by: The rule that rejects it, or `SCHEMA`.
        break_: Changes the documents, given by kind.
        kind: Kind of the manifest.
        changed: Changes of the request.
    """

    mistake: str
    found_by: str
    break_: Callable[[Kinds], object]
    kind: str = "jobset"
    changed: tuple[tuple[str, Any], ...] = ()
    name: str = NAME

    def documents(self) -> tuple[Document, ...]:
        """Returns the manifest with the mistake."""
        made = copy.deepcopy(healthy(self.kind, name=self.name, **dict(self.changed)))
        self.break_({document["kind"]: document for document in made})
        return made


def _job(kinds: Kinds, role: str = "worker") -> Document:
    """Returns the specification of a role's Job."""
    if "Job" in kinds:
        return kinds["Job"]["spec"]  # type: ignore[no-any-return]
    spec = (kinds.get("TrainingRuntime", {}).get("spec", {}).get("template") or kinds["JobSet"])[
        "spec"
    ]
    (found,) = (job for job in spec["replicatedJobs"] if job["name"] in (role, "node"))
    return found["template"]["spec"]  # type: ignore[no-any-return]


def _pod(kinds: Kinds) -> Document:
    return _job(kinds)["template"]["spec"]  # type: ignore[no-any-return]


def _container(kinds: Kinds) -> Document:
    return _pod(kinds)["containers"][0]  # type: ignore[no-any-return]


def _set(path: str, value: Any, of: Callable[[Kinds], Any] = _job) -> Callable[[Kinds], None]:
    def change(kinds: Kinds) -> None:
        *way, last = path.split(".")
        place = of(kinds)
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[int(last) if last.isdigit() else last] = value

    return change


def _variable(name: str, **value: Any) -> Callable[[Kinds], None]:
    def change(kinds: Kinds) -> None:
        variables = _container(kinds)["env"]
        variables += kinds.get("TrainJob", {}).get("spec", {}).get("trainer", {}).get("env", [])
        (found,) = (each for each in variables if each["name"] == name)
        found.clear()
        found.update({"name": name, **value})

    return change


def _index_last(kinds: Kinds) -> None:
    variables = _container(kinds)["env"]
    variables.append(variables.pop(0))


def _kind(kind: str) -> Callable[[Kinds], Document]:
    return lambda kinds: kinds[kind]


def _no_runtime_kind(kinds: Kinds) -> None:
    del kinds["TrainJob"]["spec"]["runtimeRef"]["kind"]


_PREEMPTION = "podFailurePolicy.rules.0.onExitCodes"
_DOWNWARD = {"fieldRef": {"fieldPath": "metadata.annotations['restarts']"}}

BROKEN = (
    Broken(
        "a name that leaves no room for the pods' suffix",
        "names",
        lambda kinds: None,
        name="digits-with-a-name-that-is-much-too-long-for-pods-7f3a1b",
    ),
    Broken(
        "a Service of another name",
        "resolution",
        _set("metadata.name", "digits", _kind("Service")),
        "job",
    ),
    Broken(
        "a Service with an address of its own",
        "resolution",
        _set("spec.clusterIP", "10.0.0.7", _kind("Service")),
        "job",
    ),
    Broken(
        "a Service that selects by a label that the pods do not have",
        "resolution",
        _set("spec.selector", {"app": "digits"}, _kind("Service")),
        "job",
    ),
    Broken(
        "names of ready pods only",
        "resolution",
        _set("spec.publishNotReadyAddresses", False, _kind("Service")),
        "job",
    ),
    Broken(
        "names of ready pods only, in a JobSet",
        "resolution",
        _set("spec.network.publishNotReadyAddresses", False, _kind("JobSet")),
    ),
    Broken("workers one after the other", "indexed", _set("parallelism", 1)),
    Broken("pods without an index", "indexed", _set("completionMode", "NonIndexed")),
    Broken("a worker more than pods", "cluster", _variable("TFSCALE_NUM_WORKERS", value="3")),
    Broken("a worker less than pods", "cluster", _variable("TFSCALE_NUM_WORKERS", value="1")),
    Broken(
        "numNodes without TFSCALE_NUM_WORKERS",
        "cluster",
        _set("spec.trainer.numNodes", 4, _kind("TrainJob")),
        "trainjob",
    ),
    Broken(
        "an address without the index of the Job",
        "cluster",
        _variable("TFSCALE_WORKER_ADDRESS", value=f"{NAME}-worker-{{index}}.{NAME}:2222"),
    ),
    Broken(
        "an address of another namespace's habit",
        "cluster",
        _variable("TFSCALE_WORKER_ADDRESS", value=f"{NAME}-worker-0-{{index}}.digits:2222"),
    ),
    Broken(
        "a port that the container does not have",
        "cluster",
        _set("ports.0.containerPort", 8080, _container),
    ),
    Broken(
        "a server that thinks it is a worker",
        "cluster",
        _set("template.spec.containers.0.env.3.value", "worker", lambda k: _job(k, "ps")),
        changed=(("num_ps", 1),),
    ),
    Broken("the index after its use", "variables", _index_last),
    Broken(
        "restarts counted by an annotation that no controller sets",
        "restart_count",
        _variable("TFSCALE_RESTART", valueFrom=_DOWNWARD),
    ),
    Broken("a worker that comes back by itself", "restart_policy", _set("backoffLimit", 6)),
    Broken(
        "a container that restarts in its pod",
        "restart_policy",
        _set("restartPolicy", "OnFailure", _pod),
    ),
    Broken("another status than 42", "preemption", _set(f"{_PREEMPTION}.values", [143])),
    Broken(
        "another status than 42, in a Job",
        "preemption",
        _set(f"{_PREEMPTION}.values", [0, 42, 143]),
        "job",
    ),
    Broken(
        "the policy of another container",
        "preemption",
        _set(f"{_PREEMPTION}.containerName", "tensorflow"),
    ),
    Broken(
        "a preemption that uses a restart",
        "preemption",
        _set("spec.failurePolicy.rules.0.action", "RestartJobSet", _kind("JobSet")),
    ),
    Broken(
        "new workers beside old ones",
        "restart_strategy",
        _set("spec.failurePolicy.restartStrategy", "Recreate", _kind("JobSet")),
    ),
    Broken(
        "success of a role that does not exist",
        "roles",
        _set("spec.successPolicy.targetReplicatedJobs", ["workers"], _kind("JobSet")),
    ),
    Broken(
        "a role that waits for a later one",
        "roles",
        _set("spec.replicatedJobs.1.dependsOn.0.name", "chief", _kind("JobSet")),
        changed=(("num_ps", 1),),
    ),
    Broken(
        "less time than a checkpoint takes", "grace", _set("terminationGracePeriodSeconds", 5, _pod)
    ),
    Broken("a mount without its volume", "volumes", _set("volumes.0.name", "data", _pod)),
    Broken(
        "logs in the pod's own files",
        "volumes",
        _variable("TFSCALE_EXIT_REASON", value="/logs/error.json"),
    ),
    Broken(
        "more GPUs at most than at least",
        "resources",
        _set("resources.limits", {"nvidia.com/gpu": "2"}, _container),
    ),
    Broken(
        "a runtime of the cluster instead of the namespace's",
        "same_name",
        _no_runtime_kind,
        "trainjob",
    ),
    Broken(
        "a container that the Trainer does not know",
        "trainer",
        _set("name", "main", _container),
        "trainjob",
    ),
    Broken("a misspelled field", SCHEMA, _set("spec.failurePolicy.maxRestart", 3, _kind("JobSet"))),
    Broken("a misspelled field of the pods", SCHEMA, _set("restartpolicy", "Never", _pod)),
    Broken(
        "a number as the value of a variable", SCHEMA, _variable("PYTHONUNBUFFERED", value=1), "job"
    ),
    Broken("a port as text", SCHEMA, _set("ports.0.containerPort", "2222", _container), "job"),
    Broken(
        "an API version that does not exist",
        SCHEMA,
        _set("apiVersion", "jobset.x-k8s.io/v1", _kind("JobSet")),
    ),
    Broken(
        "a field of another kind", SCHEMA, _set("spec.numNodes", 2, _kind("TrainJob")), "trainjob"
    ),
)
