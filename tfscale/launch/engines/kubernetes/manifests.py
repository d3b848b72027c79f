"""The manifests of a job, as plain data: a JobSet, an Indexed Job, or a TrainJob with its runtime.

A JobSet restarts all pods together, which TensorFlow needs, and has roles. It sees no exit status,
only why a Job failed. So the pods of the role that trains have a pod failure policy with one rule:
status 42 fails the Job. And the JobSet has a rule for Jobs that failed by a pod failure policy: it
restarts without counting. All other failures use one of `maxRestarts`. Needs JobSet 0.8.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from strategies.extension import JOB_VARIABLE, RESTART_VARIABLE
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.engines.kubernetes.pod_template import (
    CONTAINER,
    container_command,
    exit_reason_variables,
    from_field,
    pod_resources,
    pod_template,
    pod_variables,
    user_variables,
)
from tfscale.launch.engines.kubernetes.roles import Role, cluster_variables, roles_of
from tfscale.launch.engines.kubernetes.settings import Settings
from tfscale.launch.outcome import PREEMPTED_STATUS

JOB_SET_NAME_LABEL = "jobset.sigs.k8s.io/jobset-name"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
ANCESTOR_LABEL = "trainer.kubeflow.org/trainjob-ancestor-step"
RESTART_LABEL = "jobset.sigs.k8s.io/restart-attempt"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"
TRAINER_ROLE = "node"
"""The names that Kubeflow Trainer gives the workers' replicated job and their container."""
_ALWAYS = 2**31 - 1
_EVICTED = {"type": "DisruptionTarget", "status": "True"}

Document = dict[str, Any]


def manifest(request: JobRequest, settings: Settings, name: str) -> tuple[Document, ...]:
    """Returns the documents to create, in order.

    Args:
        request: What is asked for.
        settings: The options.
        name: The name of the job, also its id.
    """
    make = {"jobset": _job_set, "job": _indexed_job, "trainjob": _train_job}[settings.kind]
    documents = make(request, settings, name)
    for document in documents:
        metadata = {"name": name}
        if settings.namespace:
            metadata["namespace"] = settings.namespace
        document["metadata"] = {**metadata, **document["metadata"]}
    return tuple(documents)


def _job_set(request: JobRequest, settings: Settings, name: str) -> list[Document]:
    roles = roles_of(request)
    hosts = {role.name: f"{name}-{role.name}-0-{{index}}.{name}" for role in roles}
    restart = [from_field(RESTART_VARIABLE, f"metadata.labels['{RESTART_LABEL}']")]
    jobs: list[Document] = []
    for role in roles:
        cluster = cluster_variables(role, roles, hosts, settings.port)
        variables = pod_variables(request, role, {"value": name}, restart, cluster)
        spec = {
            **_completions(role),
            **_failures(request, role, CONTAINER),
            "template": pod_template(request, settings, role, variables),
        }
        if role.trains and request.time_limit is not None:
            spec["activeDeadlineSeconds"] = math.ceil(request.time_limit)
        job: Document = {"name": role.name, "replicas": 1}
        if jobs:
            job["dependsOn"] = [{"name": jobs[-1]["name"], "status": "Ready"}]
        jobs.append({**job, "template": {"spec": spec}})
    return [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"labels": _labels()},
            "spec": {**_job_set_policies(request, roles, name), "replicatedJobs": jobs},
        }
    ]


def _job_set_policies(request: JobRequest, roles: tuple[Role, ...], subdomain: str) -> Document:
    network: Document = {"enableDNSHostnames": True, "publishNotReadyAddresses": True}
    if subdomain:
        network["subdomain"] = subdomain
    trains = [role.name for role in roles if role.trains]
    policies: Document = {
        "network": network,
        "successPolicy": {"operator": "All", "targetReplicatedJobs": trains},
    }
    if request.max_restarts is None:
        return policies  # a JobSet without a failure policy fails with its first Job
    rules = [_rule("preempted", "RestartJobSetAndIgnoreMaxRestarts", "PodFailurePolicy")]
    if request.time_limit is not None:
        rules.append(_rule("timeLimit", "FailJobSet", "DeadlineExceeded"))
    policies["failurePolicy"] = {
        "maxRestarts": request.max_restarts,
        # No pod starts before all earlier ones have ended: TensorFlow's tasks would meet the old.
        "restartStrategy": "BlockingRecreate",
        "rules": rules,
    }
    return policies


def _rule(name: str, action: str, reason: str) -> Document:
    return {"name": name, "action": action, "onJobFailureReasons": [reason]}


def _completions(role: Role) -> Document:
    return {"completionMode": "Indexed", "completions": role.count, "parallelism": role.count}


def _failures(request: JobRequest, role: Role, container: str) -> Document:
    """Returns what the Job of a role does when a pod fails.

    Workers that train together end together. With a chief a worker is replaced by itself, and a
    data worker always is. A parameter server is not: its variables are lost.
    """
    evicted = {"action": "Ignore", "onPodConditions": [dict(_EVICTED)]}
    if role.trains:
        if request.max_restarts is None:
            return {"backoffLimit": 0}
        saved = {"action": "FailJob", "onExitCodes": _exit_codes(container)}
        return {"backoffLimit": 0, "podFailurePolicy": {"rules": [saved]}}
    if role.name == "data":
        return {"backoffLimit": _ALWAYS, "podFailurePolicy": {"rules": [evicted]}}
    if role.name == "worker" and request.max_restarts:
        return {
            "backoffLimitPerIndex": request.max_restarts,
            "maxFailedIndexes": 0,
            "podFailurePolicy": {"rules": [evicted]},
        }
    return {"backoffLimit": 0}


def _exit_codes(container: str) -> Document:
    return {"containerName": container, "operator": "In", "values": [PREEMPTED_STATUS]}


def _indexed_job(request: JobRequest, settings: Settings, name: str) -> list[Document]:
    (role,) = roles_of(request)
    hosts = {role.name: f"{name}-{{index}}.{name}"}
    # How often this index failed with a status that the policy below ignores; unset means never.
    # So the value is 0, 01, 02, ... and in a Job that does not restart always 0.
    counted = from_field("TFSCALE_IGNORED", f"metadata.annotations['{IGNORED_FAILURES}']")
    restart = [counted, {"name": RESTART_VARIABLE, "value": "0$(TFSCALE_IGNORED)"}]
    cluster = cluster_variables(role, (role,), hosts, settings.port)
    variables = pod_variables(request, role, {"value": name}, restart, cluster)
    template = pod_template(request, settings, role, variables)
    template["spec"]["subdomain"] = name
    spec = _completions(role)
    if request.max_restarts is None:
        spec["backoffLimit"] = 0
    else:
        ignored = {"action": "Ignore", "onExitCodes": _exit_codes(CONTAINER)}
        spec |= {"backoffLimitPerIndex": 0, "maxFailedIndexes": 0}
        spec["podFailurePolicy"] = {"rules": [ignored]}
    if request.time_limit is not None:
        spec["activeDeadlineSeconds"] = math.ceil(request.time_limit)
    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {JOB_NAME_LABEL: name},
        "ports": [{"name": "tensorflow", "port": settings.port}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"labels": _labels()},
            "spec": service,
        },
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"labels": _labels()},
            "spec": {**spec, "template": template},
        },
    ]


def _train_job(request: JobRequest, settings: Settings, name: str) -> list[Document]:
    """Returns a runtime that names no job, so that a cluster can keep it, and the job itself."""
    (role,) = roles_of(request)
    own = f"$({JOB_VARIABLE})"
    hosts = {role.name: f"{own}-{TRAINER_ROLE}-0-{{index}}.{own}"}
    cluster: Mapping[str, str] = cluster_variables(role, (role,), hosts, settings.port)
    count = {"TFSCALE_NUM_WORKERS": cluster["TFSCALE_NUM_WORKERS"]}
    job = from_field(JOB_VARIABLE, f"metadata.labels['{JOB_SET_NAME_LABEL}']")
    del job["name"]
    restart = [from_field(RESTART_VARIABLE, f"metadata.labels['{RESTART_LABEL}']")]
    added = [
        *({"name": key, "value": value} for key, value in count.items()),
        *exit_reason_variables(request, role),
        *user_variables(request),
    ]
    names = {each["name"] for each in added}
    everything = pod_variables(request, role, job, restart, cluster)
    variables = [each for each in everything if each["name"] not in names]
    template = pod_template(request, settings, role, variables, container=TRAINER_ROLE)
    container = template["spec"]["containers"][0]
    del container["command"]
    container.pop("resources", None)
    runtime_job = {
        "name": TRAINER_ROLE,
        "replicas": 1,
        "template": {
            "metadata": {"labels": {ANCESTOR_LABEL: "trainer"}},
            "spec": {
                "completionMode": "Indexed",
                **_failures(request, role, TRAINER_ROLE),
                "template": template,
            },
        },
    }
    of_all_starts = dataclasses.replace(request, time_limit=None)  # the TrainJob has one
    node = Role(TRAINER_ROLE, role.count, trains=True)
    policies = _job_set_policies(of_all_starts, (node,), "")
    trainer: Document = {
        "numNodes": role.count,
        "image": settings.image,
        "command": container_command(request, role),
        "env": added,
    }
    resources = pod_resources(request, settings, role)
    if resources:
        trainer["resourcesPerNode"] = {"limits": resources, "requests": dict(resources)}
    spec: Document = {
        "runtimeRef": {
            "apiGroup": "trainer.kubeflow.org",
            "kind": "TrainingRuntime",
            "name": name,
        },
        "trainer": trainer,
    }
    if request.time_limit is not None:
        spec["activeDeadlineSeconds"] = math.ceil(request.time_limit)
    return [
        {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainingRuntime",
            "metadata": {"labels": {**_labels(), "trainer.kubeflow.org/framework": "tensorflow"}},
            "spec": {
                "mlPolicy": {"numNodes": 1},
                "template": {"spec": {**policies, "replicatedJobs": [runtime_job]}},
            },
        },
        {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"labels": _labels()},
            "spec": spec,
        },
    ]


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "tfscale"}
