"""Rules for pods that find each other: names, indices, addresses, ports, DNS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from strategies.extension import (
    DATA_WORKER_VARIABLE,
    JOB_VARIABLE,
    cluster_from_environment,
    data_workers,
)
from tfscale.launch.engines.kubernetes.controllers import Document, Pod
from tfscale.launch.engines.kubernetes.manifest_view import View

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_LONGEST_LABEL = 63


def names(view: View) -> Iterator[str]:
    """Names of pods are labels of DNS, with the five characters that Kubernetes appends."""
    for pod in _longest(view):
        if not _LABEL.fullmatch(pod.host) or len(pod.name) > _LONGEST_LABEL:
            yield (
                f"pod {pod.name} must be a name of at most {_LONGEST_LABEL} lowercase letters, "
                f"digits and hyphens, and has {len(pod.name)}. Give a shorter --job_name"
            )


def _longest(view: View) -> Iterator[Pod]:
    for role in view.job_specs:
        yield max((pod for pod in view.pods if pod.role == role), key=lambda pod: len(pod.host))


def same_name(view: View) -> Iterator[str]:
    """The documents belong together."""
    named = {(d["metadata"]["name"], d["metadata"].get("namespace", "")) for d in view.documents}
    if len(named) > 1:
        yield f"all documents must have one name and namespace; they have {sorted(named)}"
    reference = view.kinds.get("TrainJob", {}).get("spec", {}).get("runtimeRef")
    if reference is None:
        return
    runtime = view.kinds["TrainingRuntime"]
    meant = (reference.get("kind", "ClusterTrainingRuntime"), reference["name"])
    if meant != (runtime["kind"], runtime["metadata"]["name"]):
        yield f"runtimeRef must name the runtime of the manifest, and names {' '.join(meant)}"


def indexed(view: View) -> Iterator[str]:
    """Every pod has its own index, and all of them run at the same time."""
    for role, spec in view.job_specs.items():
        if spec.get("completionMode") != "Indexed":
            yield f"{role} must have completionMode: Indexed, or its pods have no index and name"
        completions, parallelism = spec.get("completions", 1), spec.get("parallelism", 1)
        if completions != parallelism:
            yield (
                f"{role} must have completions == parallelism, as all pods run together; it has "
                f"{completions} and {parallelism}"
            )
    for replicated in view.spec.get("replicatedJobs", []):
        if replicated.get("replicas", 1) != 1:
            yield f"{replicated['name']} must have replicas: 1; its pods are those of one Job"
    for pod in view.pods:
        if pod.environment().get("JOB_COMPLETION_INDEX") != str(pod.index):
            yield f"{pod.host} must read JOB_COMPLETION_INDEX from its annotation"


def resolution(view: View) -> Iterator[str]:
    """The names of the pods resolve, also before the pods are ready."""
    if "Job" in view.kinds:
        yield from _service(view, view.kinds.get("Service"))
        return
    network = view.spec.get("network", {})
    if not network.get("enableDNSHostnames", True):
        yield "network.enableDNSHostnames must be true, or the pods have no names"
    if not network.get("publishNotReadyAddresses", True):
        yield (
            "network.publishNotReadyAddresses must be true: a worker is not ready before it has "
            "found the others"
        )


def _service(view: View, service: Document | None) -> Iterator[str]:
    name = None if service is None else service["metadata"]["name"]
    for pod in view.pods[:1]:
        if service is None or pod.subdomain != name:
            yield (
                f"subdomain {pod.subdomain!r} of the pods must be the name of a Service ({name!r})"
            )
            return
        if service["spec"].get("clusterIP") != "None":
            yield "the Service must have clusterIP: None, or the names of its pods do not resolve"
        if not service["spec"].get("publishNotReadyAddresses"):
            yield (
                "the Service must have publishNotReadyAddresses: true: a worker is not ready "
                "before it has found the others"
            )
        selector = service["spec"].get("selector", {})
        if not selector or any(pod.labels.get(key) != value for key, value in selector.items()):
            yield f"the selector {dict(selector)} of the Service must match the pods"


def variables(view: View) -> Iterator[str]:
    """Values that refer to other variables can be expanded."""
    for pod in view.pods:
        listed = [each["name"] for each in pod.container.get("env", [])]
        twice = sorted({name for name in listed if listed.count(name) > 1})
        if twice:
            yield f"{pod.host} has {twice[0]} twice"
        environment = pod.environment()
        for variable in pod.container.get("env", []):
            for name in _references(variable.get("value", "")):
                if name in listed and listed.index(name) < listed.index(variable["name"]):
                    continue
                yield (
                    f"{variable['name']} of {pod.host} uses $({name}), which must come earlier "
                    "in env"
                )
        if not environment.get(JOB_VARIABLE):
            yield f"{pod.host} must have {JOB_VARIABLE}"


def _references(value: str) -> Iterator[str]:
    for found in re.finditer(r"\$\$|\$\(([^)]*)\)", value):
        if found[1]:
            yield found[1]


def cluster(view: View) -> Iterator[str]:
    """Each pod reads the same cluster, whose addresses are the pods and their ports."""
    served = {f"{pod.host}.{pod.subdomain}": pod for pod in view.pods if pod.subdomain}
    clusters = []
    for pod in view.pods:
        environment = pod.environment()
        if DATA_WORKER_VARIABLE in environment:
            continue
        try:
            own = cluster_from_environment(environment)
        except ValueError as error:
            yield f"{pod.host} gets no cluster: {error}"
            continue
        if own is None:
            yield f"{pod.host} must have TFSCALE_NUM_WORKERS and TFSCALE_WORKER_ADDRESS"
            continue
        clusters.append(own)
        host, _, port = own.address.rpartition(":")
        if host != f"{pod.host}.{pod.subdomain}":
            yield f"{pod.host} must find itself at {pod.host}.{pod.subdomain}, not at {host}"
        if int(port) not in _ports(pod):
            yield f"port {port} of {pod.host} must be a containerPort; these are {_ports(pod)}"
    if any(each.jobs != clusters[0].jobs for each in clusters):
        yield "all pods must have the same addresses"
    for first in clusters[:1]:
        addresses = [address for tasks in first.jobs.values() for address in tasks]
        missing = [a for a in addresses if a.rpartition(":")[0] not in served]
        if missing:
            yield f"{missing[0]} must be the name of a pod; pods are {', '.join(served)}"
        extra = len(view.pods) - len(addresses) - sum(pod.role == "data" for pod in view.pods)
        if extra > 0:
            yield f"{extra} more pod(s) start than the {len(addresses)} that have an address"
    yield from _data_workers(view, served)


def _data_workers(view: View, served: Mapping[str, Pod]) -> Iterator[str]:
    for pod in view.pods:
        try:
            found = data_workers(pod.environment())
        except ValueError as error:
            yield f"{pod.host} finds no data workers: {error}"
            continue
        for address in found.addresses if found else ():
            host, _, port = address.rpartition(":")
            if host not in served or int(port) not in _ports(served[host]):
                yield f"data worker {address} must be a pod with this containerPort"
        if found and found.index is not None and found.index != pod.index:
            yield f"{pod.host} must have {DATA_WORKER_VARIABLE}={pod.index}, not {found.index}"


def _ports(pod: Pod) -> list[int]:
    return [each["containerPort"] for each in pod.container.get("ports", [])]
