"""The Kubernetes engine: kubectl creates a manifest, and answers for it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tfscale.files.output_files import write_whole
from tfscale.launch.engines.engine import JobStatus, State, Submission
from tfscale.launch.engines.engine_tools import EngineFailed, run_tool
from tfscale.launch.engines.job_record import JobRecord
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.engines.kubernetes.answers import job_status
from tfscale.launch.engines.kubernetes.controllers import REPLICATED_JOB_LABEL
from tfscale.launch.engines.kubernetes.manifests import (
    JOB_NAME_LABEL,
    JOB_SET_NAME_LABEL,
    TRAINER_ROLE,
    manifest,
)
from tfscale.launch.engines.kubernetes.pod_template import CONTAINER, INDEX_LABEL, python_of
from tfscale.launch.engines.kubernetes.rules import check_manifest
from tfscale.launch.engines.kubernetes.settings import OPTIONS, Settings, settings_of
from tfscale.launch.engines.kubernetes.yaml_text import yaml_text

_MANIFEST = "manifest.yaml"
_STOPPED = "stopped"
_RESOURCES = {
    "jobset": ("jobsets.jobset.x-k8s.io",),
    "job": ("jobs.batch", "services"),
    "trainjob": ("trainjobs.trainer.kubeflow.org", "trainingruntimes.trainer.kubeflow.org"),
}
"""What is created, by kind; the job itself is the first."""
_EARLY_SECONDS = JobRequest(("true",), "a", 1).early_seconds
_REQUEST_SECONDS = 30
_MARGIN_SECONDS = 30.0
_CONNECTIONS = 8
_CURE = "`kubectl cluster-info` shows whether the cluster answers; --option context=... chooses it."


class Kubernetes:
    """Runs a job as pods of a cluster. Everything is done by `kubectl`, as its user is allowed."""

    name = "kubernetes"
    options: Mapping[str, str] = OPTIONS

    def submission(self, request: JobRequest, job: JobRecord) -> Submission:
        """Returns the manifest and the command that creates it. See `Engine.submission`."""
        settings = settings_of(request.options)
        _refuse(request, settings)
        documents = manifest(request, settings, job.id)
        check_manifest(documents, request.grace_seconds)
        kubectl = _kubectl(settings)
        created = (*kubectl, "create", f"--filename={_MANIFEST}", "--output=name")
        removed = (*kubectl, "delete", f"--filename={_MANIFEST}", "--ignore-not-found")
        return Submission(
            files={_MANIFEST: yaml_text(*documents)},
            commands=(created,),
            undo=((*removed, "--wait=false"),),
            writes_logs_here=False,
        )

    def engine_id(self, output: str) -> str:
        """Returns the name of the resource. See `Engine.engine_id`."""
        name = output.split()[-1] if output.split() else ""
        if "/" not in name:  # such as jobset.jobset.x-k8s.io/digits-7f3a1b
            raise EngineFailed(
                f"kubectl did not answer with the name of a resource: {output.strip()[-300:]!r}. "
                "`kubectl get jobs` shows whether it made one."
            )
        return name

    def status(self, job: JobRecord) -> JobStatus:
        """Asks for the resource and its pods. See `Engine.status`."""
        settings = settings_of(job.options)
        name = f"{_RESOURCES[settings.kind][0]}/{job.id}"
        found = _asked(settings, "get", name, "--ignore-not-found", "--output=json")
        if not found.strip():
            if (job.folder / _STOPPED).exists():
                return JobStatus(State.STOPPED, "stopped, and removed from the cluster")
            return JobStatus(State.UNKNOWN, f"the cluster has no {name}")
        selector = f"--selector={_selector(settings, job)}"
        listed = _asked(settings, "get", "pods", selector, "--output=json")
        return job_status(_parsed(found), _parsed(listed).get("items", []))

    def logs(self, job: JobRecord) -> Mapping[str, Path | tuple[str, ...]]:
        """Returns the commands that print the output of the pods. See `Engine.logs`."""
        settings = settings_of(job.options)
        container = f"--container={_container(settings)}"
        commands: dict[str, Path | tuple[str, ...]] = {}
        for task in job.tasks:
            selector = f"--selector={_selector(settings, job, task)}"
            # Without a deadline of a request: --follow reads until the pod ends.
            kubectl = (*_target(settings), "logs", selector, container, "--tail=-1")
            commands[task] = ("kubectl", *kubectl)
        return commands

    def stop(self, job: JobRecord) -> None:
        """Deletes what was created, and waits until the pods have ended. See `Engine.stop`."""
        settings = settings_of(job.options)
        names = [f"{resource}/{job.id}" for resource in _RESOURCES[settings.kind]]
        seconds = job.grace_seconds + _MARGIN_SECONDS
        how = ("--ignore-not-found", "--cascade=foreground", f"--timeout={seconds:.0f}s")
        command = ("kubectl", *_target(settings), "delete", *names, *how)
        run_tool(command, cure=_CURE, seconds=seconds + _MARGIN_SECONDS)
        write_whole(job.folder / _STOPPED, "")

    def ask_for_stacks(self, job: JobRecord) -> str:
        """Asks in each running pod. See `Engine.ask_for_stacks`."""
        settings = settings_of(job.options)
        running = "--field-selector=status.phase=Running"
        selector = f"--selector={_selector(settings, job)}"
        pods = _asked(settings, "get", "pods", selector, running, "--output=name").split()
        if not pods:
            raise EngineFailed(f"no pod of {job.id} runs. `tfscale jobs status {job.id}` says why.")
        program = (python_of(job.command), "-m", "tfscale.launch.engines.stack_request", job.id)
        container = f"--container={_container(settings)}"

        def ask(pod: str) -> int:
            answer = _asked(settings, "exec", pod, container, "--", *program)
            found = re.search(r"asked ([0-9]+) of", answer)
            return int(found[1]) if found else 0

        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            asked = sum(pool.map(ask, pods))
        return f"asked {asked} process(es) in {len(pods)} pod(s)"


def _refuse(request: JobRequest, settings: Settings) -> None:
    """Refuses what Kubernetes cannot do.

    Raises:
        ValueError: Names the flag, the value and the cure.
    """
    use_job_set = "Use --option kind=jobset."
    if request.early_seconds != _EARLY_SECONDS:
        raise ValueError(
            "`early_seconds` must be left out with --engine=kubernetes, which restarts after early "
            f"ends as after others. Received: early_seconds={request.early_seconds:g}. "
            "--time_limit ends a job that only restarts."
        )
    if "TF_CONFIG" in request.environment:
        raise ValueError(
            "`env` must not contain TF_CONFIG: each pod reads its cluster from TFSCALE_ variables. "
            f"Received: TF_CONFIG={request.environment['TF_CONFIG']!r}. Leave it out."
        )
    if request.num_ps and request.num_data_workers:
        raise ValueError(
            "`num_data_workers` must be 0 with --num_ps. Received: "
            f"num_data_workers={request.num_data_workers}. Workers of a chief read their own input."
        )
    if settings.kind != "jobset":
        for flag, value in (
            ("num_ps", request.num_ps),
            ("num_data_workers", request.num_data_workers),
        ):
            if value:
                raise ValueError(
                    f"`{flag}` must be 0 with kind={settings.kind}, whose pods are all workers. "
                    f"Received: {flag}={value}. {use_job_set}"
                )
    if settings.kind == "job" and request.max_restarts:
        raise ValueError(
            "`max_restarts` must be 0 with kind=job, or left out: a Job replaces single pods, and "
            "TensorFlow needs all workers to start again. 0 runs preempted workers again. "
            f"Received: max_restarts={request.max_restarts}. {use_job_set}"
        )
    if request.log_dir is not None:
        _refuse_lost_logs(request.log_dir, settings)
    size = settings.shared_memory
    if size is not None and request.memory is not None and size >= request.memory:
        raise ValueError(
            "`--option shared_memory=...` must be less than --memory, of which it is a part. "
            f"Received: {size} of {request.memory} bytes. Give more --memory."
        )


def _refuse_lost_logs(log_dir: Path, settings: Settings) -> None:
    inside = settings.claim and log_dir.is_relative_to(settings.mount) and ".." not in log_dir.parts
    if not inside:
        where = (
            f"below {settings.mount}, where the claim is mounted"
            if settings.claim
            else ("in a volume, which --option claim=NAME mounts at /shared")
        )
        raise ValueError(
            f"`log_dir` must be {where}: a pod's own files end with it. Received: "
            f"log_dir={str(log_dir)!r}. Example: --log_dir={settings.mount}/logs. Without "
            "--log_dir, `tfscale jobs logs` reads the output from Kubernetes."
        )


def _target(settings: Settings) -> tuple[str, ...]:
    chosen = {"context": settings.context, "namespace": settings.namespace}
    return tuple(f"--{flag}={value}" for flag, value in chosen.items() if value)


def _kubectl(settings: Settings) -> tuple[str, ...]:
    return ("kubectl", *_target(settings), f"--request-timeout={_REQUEST_SECONDS}s")


def _asked(settings: Settings, *arguments: str) -> str:
    return run_tool((*_kubectl(settings), *arguments), cure=_CURE)


def _parsed(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise EngineFailed(f"kubectl answered no JSON: {text[:200]!r}. {_CURE}") from error
    if not isinstance(answer, dict):
        raise EngineFailed(f"kubectl answered no object: {text[:200]!r}. {_CURE}")
    return answer


def _container(settings: Settings) -> str:
    return TRAINER_ROLE if settings.kind == "trainjob" else CONTAINER


def _selector(settings: Settings, job: JobRecord, task: str = "") -> str:
    """Returns the labels of the pods of a job, or of one task."""
    kind = settings.kind
    label = JOB_NAME_LABEL if kind == "job" else JOB_SET_NAME_LABEL
    labels = {label: job.id}
    if task:
        name, _, index = task.partition("-")
        role = {"data_worker": "data"}.get(name, name)
        if kind != "job":
            labels[REPLICATED_JOB_LABEL] = TRAINER_ROLE if kind == "trainjob" else role
        labels[INDEX_LABEL] = index or "0"
    return ",".join(f"{key}={value}" for key, value in labels.items())
