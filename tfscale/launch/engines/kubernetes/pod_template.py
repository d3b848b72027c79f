"""The pods of a job: container, variables, resources, volumes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from strategies.extension import EXIT_REASON_VARIABLE, JOB_VARIABLE, RESTART_VARIABLE
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.engines.kubernetes.roles import INDEX_VARIABLE, Role
from tfscale.launch.engines.kubernetes.settings import Settings
from tfscale.launch.task_files import attempt_name

CONTAINER = "main"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
ROLE_LABEL = "tfscale-role"
TERMINATION_LOG = "/dev/termination-log"
"""Where Kubernetes lets a container write why it ended; it shows that in the status of the pod."""
_DEFAULT_SHARED_MEMORY = 2**30


def pod_template(
    request: JobRequest,
    settings: Settings,
    role: Role,
    variables: list[dict[str, Any]],
    *,
    container: str = CONTAINER,
) -> dict[str, Any]:
    """Returns the template of the pods of a role, as plain data.

    Args:
        request: What is asked for.
        settings: The options.
        role: The role.
        variables: The container's variables, a list in the form of Kubernetes.
        container: The name of the container.
    """
    volumes, mounts = _volumes(request, settings, role)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",  # a pod that failed is counted, and its end decides what follows
        "terminationGracePeriodSeconds": math.ceil(request.grace_seconds),
        # Otherwise each Service of the namespace adds variables, and one named tfscale adds ours.
        "enableServiceLinks": False,
    }
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        spec["tolerations"] = [dict(each) for each in settings.tolerations]
    if settings.run_as:
        user, group = settings.run_as
        spec["securityContext"] = {"runAsUser": user, "runAsGroup": group, "fsGroup": group}
    if settings.pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.pull_secret}]
    body: dict[str, Any] = {"name": container, "image": settings.image}
    if settings.pull_policy:
        body["imagePullPolicy"] = settings.pull_policy
    body["command"] = container_command(request, role)
    body["env"] = variables
    body["ports"] = [{"name": "tensorflow", "containerPort": settings.port}]
    if role.name == "data":
        body["ports"].append({"name": "data", "containerPort": settings.port + 1})
    resources = pod_resources(request, settings, role)
    if resources:
        body["resources"] = {"limits": resources, "requests": dict(resources)}
    # The last lines of the output, if the program wrote no exit reason.
    body["terminationMessagePolicy"] = "FallbackToLogsOnError"
    if mounts:
        body["volumeMounts"] = mounts
    spec["containers"] = [body]
    if volumes:
        spec["volumes"] = volumes
    return {"metadata": {"labels": {ROLE_LABEL: role.name}}, "spec": spec}


def container_command(request: JobRequest, role: Role) -> list[str]:
    """Returns what the container runs: the command, or a program that also writes its output."""
    command = [escaped(word) for word in request.command]
    if request.log_dir is None:
        return command
    log = f"{_attempt_file(request.log_dir.as_posix(), role)}.log"
    program = ("-m", "tfscale.launch.engines.kubernetes.pod_output")
    return [python_of(request.command), *program, log, "--", *command]


def python_of(command: tuple[str, ...]) -> str:
    """Returns the Python of the image: that of the command, if it names one."""
    return command[0] if re.fullmatch(r"(.*/)?python[0-9.]*", command[0]) else "python"


def pod_variables(
    request: JobRequest,
    role: Role,
    job: Mapping[str, Any],
    restart: list[dict[str, Any]],
    cluster: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Returns the variables of the pods of a role, in an order in which each can be expanded.

    Args:
        request: What is asked for.
        role: The role.
        job: The value of TFSCALE_JOB_ID, in the form of Kubernetes.
        restart: The variables that end with TFSCALE_RESTART.
        cluster: The variables of the cluster.

    Raises:
        ValueError: If the request has a variable that the job sets itself.
    """
    variables = [
        # Kubernetes would append it, too late to be used in other values.
        from_field(INDEX_VARIABLE, f"metadata.annotations['{INDEX_LABEL}']"),
        {"name": JOB_VARIABLE, **job},
        *restart,
        *({"name": name, "value": value} for name, value in cluster.items()),
        *exit_reason_variables(request, role),
    ]
    if request.gpus_per_worker == 0 and "CUDA_VISIBLE_DEVICES" not in cluster:
        # Some container runtimes show all GPUs to a pod that asks for none.
        variables.append({"name": "CUDA_VISIBLE_DEVICES", "value": ""})
    own = {each["name"] for each in variables} & set(request.environment)
    if own:
        name = min(own)
        raise ValueError(
            f"`env` must not contain {name}, which the job sets itself. Received: "
            f"{name}={request.environment[name]!r}. Leave it out."
        )
    return variables + user_variables(request)


def exit_reason_variables(request: JobRequest, role: Role) -> list[dict[str, Any]]:
    """Returns the variables for the output of a task."""
    reason = TERMINATION_LOG
    if request.log_dir is not None:
        reason = f"{_attempt_file(request.log_dir.as_posix(), role)}.error.json"
    return [
        # Otherwise the last kilobytes that a killed worker has printed would be lost.
        {"name": "PYTHONUNBUFFERED", "value": "1"},
        {"name": EXIT_REASON_VARIABLE, "value": reason},
    ]


def user_variables(request: JobRequest) -> list[dict[str, Any]]:
    """Returns the variables that the user asked for."""
    return [{"name": k, "value": escaped(value)} for k, value in request.environment.items()]


def pod_resources(request: JobRequest, settings: Settings, role: Role) -> dict[str, str]:
    """Returns what each pod of a role needs. Only workers get GPUs."""
    resources = {}
    if request.cpus_per_worker is not None:
        resources["cpu"] = str(request.cpus_per_worker)
    if request.memory is not None:
        resources["memory"] = quantity(request.memory)
    if request.gpus_per_worker and role.name == "worker":
        resources[settings.gpu_resource] = str(request.gpus_per_worker)
    return resources


def from_field(name: str, path: str) -> dict[str, Any]:
    """Returns a variable whose value is a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def quantity(size: int) -> str:
    """Returns bytes as Kubernetes writes them.

    Example:
        >>> quantity(32 * 2**30), quantity(1_500_000_000)
        ('32Gi', '1500000000')
    """
    for power, unit in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if size % 2**power == 0:
            return f"{size >> power}{unit}"
    return str(size)


def escaped(text: str) -> str:
    """Returns a text that Kubernetes passes on as it was.

    Kubernetes replaces $(NAME) in commands and values, and $$ by $.

    Example:
        >>> escaped("echo $HOME $(date) $$")
        'echo $HOME $$(date) $$$'
    """
    return re.sub(r"\$(?=[$(])", "$$", text)


def _attempt_file(log_dir: str, role: Role) -> str:
    task = role.task_name(f"$({INDEX_VARIABLE})")
    return str(PurePosixPath(escaped(log_dir)) / attempt_name(task, f"$({RESTART_VARIABLE})"))


def _volumes(
    request: JobRequest, settings: Settings, role: Role
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if settings.claim:
        claim = {"claimName": settings.claim}
        volumes.append({"name": "shared", "persistentVolumeClaim": claim})
        mounts.append({"name": "shared", "mountPath": str(settings.mount)})
    size = settings.shared_memory
    if size is None and request.gpus_per_worker:
        size = _DEFAULT_SHARED_MEMORY  # NCCL needs more than the usual 64 MiB
    if size is not None and role.name == "worker":
        memory = {"medium": "Memory", "sizeLimit": quantity(size)}
        volumes.append({"name": "shared-memory", "emptyDir": memory})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})
    return volumes, mounts
