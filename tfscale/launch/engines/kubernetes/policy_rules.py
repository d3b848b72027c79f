"""Rules for what happens when pods end, and for what they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from strategies.extension import EXIT_REASON_VARIABLE, RESTART_VARIABLE
from tfscale.launch.engines.kubernetes.manifest_view import View
from tfscale.launch.engines.kubernetes.manifests import ANCESTOR_LABEL, TRAINER_ROLE
from tfscale.launch.engines.kubernetes.pod_template import TERMINATION_LOG
from tfscale.launch.outcome import PREEMPTED_STATUS


def restart_count(view: View) -> Iterator[str]:
    """TFSCALE_RESTART is 0 at the first start and 1 at the second."""
    for pod, again in zip(view.pods, view.later, strict=True):
        first, second = (each.environment().get(RESTART_VARIABLE) for each in (pod, again))
        if not (first and second and first.isdigit() and int(first) == 0 and int(second) == 1):
            yield (
                f"{RESTART_VARIABLE} of {pod.host} must count restarts, and is {first!r}, then "
                f"{second!r}. Read it from the label or annotation that the controller sets"
            )


def restart_policy(view: View) -> Iterator[str]:
    """No worker that trains with others comes back by itself."""
    for role, spec in view.job_specs.items():
        policy = spec["template"]["spec"].get("restartPolicy")
        if policy != "Never":
            yield (
                f"{role} must have restartPolicy: Never, not {policy}: a container that restarts "
                "in its pod hides its exit status from every policy"
            )
        if (
            role in view.training
            and spec.get("backoffLimit", 6)
            and "backoffLimitPerIndex" not in spec
        ):
            yield (
                f"{role} must have backoffLimit: 0: a worker that comes back by itself never joins "
                "the others"
            )
        if role in view.training and spec.get("backoffLimitPerIndex"):
            yield f"{role} must have backoffLimitPerIndex: 0: a worker cannot come back by itself"


def preemption(view: View) -> Iterator[str]:
    """Status 42 restarts the job without counting, and nothing else does."""
    policy = view.spec.get("failurePolicy")
    for role, spec in view.job_specs.items():
        rules = spec.get("podFailurePolicy", {}).get("rules", [])
        names = {each["name"] for each in spec["template"]["spec"]["containers"]}
        for rule in rules:
            codes = rule.get("onExitCodes")
            if codes and codes.get("containerName", *names) not in names:
                known = ", ".join(sorted(names))
                yield f"podFailurePolicy of {role} must name one of its containers: {known}"
            if codes and rule["action"] == "Ignore" and not _is_preempted(rule):
                yield f"podFailurePolicy of {role} must ignore status {PREEMPTED_STATUS} only"
            if rule["action"] == "FailJob" and not _is_preempted(rule):
                yield (
                    f"podFailurePolicy of {role} must fail the Job for status {PREEMPTED_STATUS} "
                    "only: the JobSet restarts without counting after any of its failures"
                )
        if policy is None or role not in view.training:
            continue
        if not any(rule["action"] == "FailJob" and _is_preempted(rule) for rule in rules):
            yield f"{role} must fail by its podFailurePolicy with status {PREEMPTED_STATUS}"
    if policy is not None:
        free = [
            r for r in policy.get("rules", []) if "PodFailurePolicy" in r["onJobFailureReasons"]
        ]
        if [rule["action"] for rule in free] != ["RestartJobSetAndIgnoreMaxRestarts"]:
            yield (
                "failurePolicy must restart without counting, RestartJobSetAndIgnoreMaxRestarts, "
                "after Jobs that failed by PodFailurePolicy"
            )


def _is_preempted(rule: Mapping[str, Any]) -> bool:
    codes = rule.get("onExitCodes", {})
    return bool(codes.get("operator") == "In" and codes.get("values") == [PREEMPTED_STATUS])


def restart_strategy(view: View) -> Iterator[str]:
    """All pods end before one starts again."""
    policy = view.spec.get("failurePolicy")
    if policy is not None and policy.get("restartStrategy") != "BlockingRecreate":
        yield (
            "failurePolicy must have restartStrategy: BlockingRecreate, or new workers meet tasks "
            "of the start before"
        )


def roles(view: View) -> Iterator[str]:
    """Policies and dependencies name replicated jobs."""
    names = [each["name"] for each in view.spec.get("replicatedJobs", [])]
    targets = view.spec.get("successPolicy", {}).get("targetReplicatedJobs", [])
    for rule in view.spec.get("failurePolicy", {}).get("rules", []):
        targets = [*targets, *rule.get("targetReplicatedJobs", [])]
    for target in targets:
        if target not in names:
            yield f"a policy must name replicated jobs ({', '.join(names)}), and names {target!r}"
    for place, replicated in enumerate(view.spec.get("replicatedJobs", [])):
        for needed in replicated.get("dependsOn", []):
            if needed["name"] not in names[:place]:
                yield f"{replicated['name']} must depend on an earlier one, not {needed['name']!r}"


def grace(view: View) -> Iterator[str]:
    """A pod that is ended has the time to save that was promised."""
    for role, spec in view.job_specs.items():
        seconds = spec["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        if seconds < view.grace_seconds:
            yield (
                f"terminationGracePeriodSeconds of {role} must be at least {view.grace_seconds:g}, "
                f"the seconds to save in, and is {seconds}"
            )


def volumes(view: View) -> Iterator[str]:
    """What is mounted exists, and what is kept is written to a volume."""
    for role in view.job_specs:
        pod = next(pod for pod in view.pods if pod.role == role)
        mounts = pod.container.get("volumeMounts", [])
        volumes = [each["name"] for each in pod.spec.get("volumes", [])]
        for mount in mounts:
            if mount["name"] not in volumes:
                yield f"{mount['mountPath']} of {role} must mount a volume of the pod: {volumes}"
        path = PurePosixPath(pod.environment().get(EXIT_REASON_VARIABLE, TERMINATION_LOG))
        shared = [PurePosixPath(m["mountPath"]) for m in mounts if m["mountPath"] != "/dev/shm"]
        if str(path) != TERMINATION_LOG and not any(folder in path.parents for folder in shared):
            yield f"{EXIT_REASON_VARIABLE} of {role} must be in a volume, and is {path}"


def resources(view: View) -> Iterator[str]:
    """Devices are not overcommitted, which Kubernetes refuses."""
    for role in view.job_specs:
        pod = next(pod for pod in view.pods if pod.role == role)
        resources = pod.container.get("resources", {})
        limits, requests = resources.get("limits", {}), resources.get("requests", {})
        for name in sorted({*limits, *requests}):
            if "/" in name and limits.get(name) != requests.get(name, limits.get(name)):
                yield f"{name} of {role} must be the same in limits and requests"


def trainer(view: View) -> Iterator[str]:
    """Kubeflow Trainer finds the pods that it changes."""
    if "TrainJob" not in view.kinds:
        return
    jobs = view.spec["replicatedJobs"]
    labels = [job["template"].get("metadata", {}).get("labels", {}) for job in jobs]
    trainers = [job for job, own in zip(jobs, labels, strict=True) if own.get(ANCESTOR_LABEL)]
    if [job["name"] for job in trainers] != [TRAINER_ROLE]:
        yield (
            f"the runtime must have one replicated job {TRAINER_ROLE!r} with the label "
            f"{ANCESTOR_LABEL}, or the Trainer sets neither numNodes nor the command"
        )
        return
    containers = [
        c["name"] for c in trainers[0]["template"]["spec"]["template"]["spec"]["containers"]
    ]
    if TRAINER_ROLE not in containers:
        yield f"the runtime must have a container {TRAINER_ROLE!r}, and has {containers}"
