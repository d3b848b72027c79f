"""What Kubernetes makes of a manifest: its pods, with their names and variables.

    pods = pods_of(manifest(request, settings, "digits-7f3a1b"))
    pods[0].host, pods[0].environment()["TFSCALE_WORKER_ADDRESS"]

Written after the sources of the controllers: Kubernetes 1.32 (`pkg/controller/job`, the expansion
of variables in `third_party/forked/golang/expansion`), JobSet 0.9 (`pkg/controllers`) and Kubeflow
Trainer 2.3 (`pkg/runtime/framework/plugins`). The rules look at these pods, so they see what will
run rather than what was meant.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfscale.launch.engines.kubernetes.manifests import (
    ANCESTOR_LABEL,
    IGNORED_FAILURES,
    JOB_NAME_LABEL,
    JOB_SET_NAME_LABEL,
    RESTART_LABEL,
    TRAINER_ROLE,
)
from tfscale.launch.engines.kubernetes.pod_template import INDEX_LABEL
from tfscale.launch.engines.kubernetes.roles import INDEX_VARIABLE

REPLICATED_JOB_LABEL = "jobset.sigs.k8s.io/replicatedjob-name"

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod that Kubernetes makes.

    Attributes:
        role: Name of its replicated job, or of the Job.
        index: Its index in the Job.
        host: Its host name.
        subdomain: The Service under which its name resolves; empty if it has none.
        labels: Its labels.
        annotations: Its annotations.
        spec: The pod's own specification.
        job_spec: The specification of its Job.
    """

    role: str
    index: int
    host: str
    subdomain: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Document
    job_spec: Document

    @property
    def name(self) -> str:
        """A name of the length of its own: Kubernetes appends five random characters."""
        return f"{self.host}-abcde"

    @property
    def container(self) -> Document:
        """Its first container."""
        container: Document = self.spec["containers"][0]
        return container

    def environment(self) -> dict[str, str]:
        """Returns the variables that the kubelet passes to the container."""
        values: dict[str, str] = {}
        for variable in self._variables():
            if "valueFrom" in variable:
                values[variable["name"]] = self._field(variable["valueFrom"])
            else:
                values[variable["name"]] = expanded(variable.get("value", ""), values)
        return values

    def command(self) -> list[str]:
        """Returns program and arguments as the kubelet passes them to the container."""
        words = [*self.container.get("command", []), *self.container.get("args", [])]
        environment = self.environment()
        return [expanded(word, environment) for word in words]

    def _variables(self) -> Sequence[Document]:
        variables: list[Document] = list(self.container.get("env", []))
        if all(each["name"] != INDEX_VARIABLE for each in variables):
            path = f"metadata.annotations['{INDEX_LABEL}']"
            variables.append(
                {"name": INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            )
        return variables

    def _field(self, source: Document) -> str:
        path = source.get("fieldRef", {}).get("fieldPath", "")
        found = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
        if found is None:
            return ""
        # Kubernetes uses an empty text where the pod has no such label.
        held = self.labels if found[1] == "labels" else self.annotations
        return held.get(found[2], "")


def expanded(text: str, values: Mapping[str, str]) -> str:
    """Returns a text in which the kubelet has replaced $(NAME), and $$ by $.

    A name without a value stays as it is.

    Example:
        >>> expanded("$(A) $(B) $$(A) $A $", {"A": "1"})
        '1 $(B) $(A) $A $'
    """
    return re.sub(
        r"\$\$|\$\(([^)]*)\)",
        lambda found: "$" if found[1] is None else values.get(found[1], found[0]),
        text,
    )


def pods_of(documents: Sequence[Document], *, restart: int = 0) -> tuple[Pod, ...]:
    """Returns the pods of a manifest.

    Args:
        documents: The documents of one job.
        restart: Which start of the job it is, from 0.
    """
    by_kind = {document["kind"]: document for document in documents}
    if "Job" in by_kind:
        job = by_kind["Job"]
        annotations = {IGNORED_FAILURES: str(restart)} if restart else {}
        name = job["metadata"]["name"]
        return _pods_of_job(job["spec"], name, name, {}, annotations)
    job_set = job_set_of(documents)
    name = job_set["metadata"]["name"]
    network = job_set["spec"].get("network", {})
    subdomain = network.get("subdomain") or name
    pods: list[Pod] = []
    for replicated in job_set["spec"]["replicatedJobs"]:
        for number in range(replicated.get("replicas", 1)):
            spec = copy.deepcopy(replicated["template"]["spec"])
            if network.get("enableDNSHostnames", True):
                spec["template"]["spec"]["subdomain"] = subdomain
            added = {
                JOB_SET_NAME_LABEL: name,
                REPLICATED_JOB_LABEL: replicated["name"],
                RESTART_LABEL: str(restart),
            }
            host = f"{name}-{replicated['name']}-{number}"
            pods += _pods_of_job(spec, replicated["name"], host, added, added)
    return tuple(pods)


def _pods_of_job(
    spec: Document,
    role: str,
    job: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> tuple[Pod, ...]:
    template = spec["template"]
    metadata = template.get("metadata", {})
    pods = []
    for index in range(spec.get("parallelism", 1)):
        own = {INDEX_LABEL: str(index)}
        pods.append(
            Pod(
                role=role,
                index=index,
                host=f"{job}-{index}",
                subdomain=template["spec"].get("subdomain", ""),
                labels={**metadata.get("labels", {}), **labels, **own, JOB_NAME_LABEL: job},
                annotations={**metadata.get("annotations", {}), **annotations, **own},
                spec=template["spec"],
                job_spec=spec,
            )
        )
    return tuple(pods)


def job_set_of(documents: Sequence[Document]) -> Document:
    """Returns the JobSet of a manifest, or the one that Kubeflow Trainer makes of a TrainJob."""
    by_kind = {document["kind"]: document for document in documents}
    if "JobSet" in by_kind:
        return by_kind["JobSet"]
    job = by_kind["TrainJob"]
    template = copy.deepcopy(by_kind["TrainingRuntime"]["spec"]["template"])
    trainer = job["spec"].get("trainer", {})
    for replicated in template["spec"]["replicatedJobs"]:
        labels = replicated["template"].get("metadata", {}).get("labels", {})
        if labels.get(ANCESTOR_LABEL) != "trainer":
            continue
        replicated["replicas"] = 1
        spec = replicated["template"]["spec"]
        default = by_kind["TrainingRuntime"]["spec"].get("mlPolicy", {}).get("numNodes", 1)
        spec["parallelism"] = spec["completions"] = trainer.get("numNodes", default)
        for container in spec["template"]["spec"]["containers"]:
            if container["name"] != TRAINER_ROLE:
                continue
            container |= {key: trainer[key] for key in ("image", "command") if key in trainer}
            if "resourcesPerNode" in trainer:
                container["resources"] = trainer["resourcesPerNode"]
            added = {each["name"]: each for each in trainer.get("env", [])}
            kept = [added.pop(each["name"], each) for each in container.get("env", [])]
            container["env"] = [*kept, *added.values()]
    metadata = {"name": job["metadata"]["name"]}
    return {"kind": "JobSet", "metadata": metadata, "spec": template["spec"]}
