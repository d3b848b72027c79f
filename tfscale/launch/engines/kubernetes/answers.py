"""Reads where a job stands from what Kubernetes says about it and its pods. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfscale.launch.engines.engine import JobStatus, State
from tfscale.launch.engines.kubernetes.manifests import IGNORED_FAILURES, RESTART_LABEL
from tfscale.launch.engines.kubernetes.pod_template import INDEX_LABEL, ROLE_LABEL
from tfscale.launch.engines.kubernetes.roles import Role

Answer = Mapping[str, Any]

_LONGEST_REASON = 300
_WHY = re.compile(r'"why":\s*("(?:[^"\\]|\\.)*")')
_STARTING = ("ContainerCreating", "PodInitializing")


def job_status(job: Answer, pods: Sequence[Answer]) -> JobStatus:
    """Returns the status of a job.

    Args:
        job: The JobSet, Job or TrainJob, as `kubectl get --output=json` prints it.
        pods: Its pods, likewise.
    """
    conditions = {
        each["type"]: each
        for each in job.get("status", {}).get("conditions", [])
        if each.get("status") == "True"
    }
    restarts = _restarts(job, pods)
    failed = first_failure(pods)
    code = None if failed is None else _exit_code(failed)
    if "Completed" in conditions or "Complete" in conditions:
        return JobStatus(State.SUCCEEDED, "", 0, restarts)
    if "Failed" in conditions:
        said = [conditions["Failed"].get("message", "")] + ([_failure(failed)] if failed else [])
        return JobStatus(State.FAILED, _joined(said), code, restarts)
    if "deletionTimestamp" in job["metadata"]:
        return JobStatus(State.STOPPED, "its pods are ending", code, restarts)
    if "Suspended" in conditions:
        detail = f"suspended: {conditions['Suspended'].get('message', '')}"
        return JobStatus(State.PENDING, _joined([detail]), None, restarts)
    running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
    waiting = [reason for reason in map(_why_waiting, pods) if reason]
    if running:
        nodes = sorted({pod["spec"].get("nodeName", "?") for pod in running})
        detail = f"{len(running)} of {len(pods)} pods run, on {', '.join(nodes)}"
        return JobStatus(State.RUNNING, _joined([detail, *waiting[:1]]), None, restarts)
    state = State.REQUEUED if restarts else State.PENDING
    return JobStatus(state, _joined(waiting[:1] or ["no pod runs yet"]), None, restarts)


def first_failure(pods: Iterable[Answer]) -> Answer | None:
    """Returns the pod that failed first, or None."""
    failed = [pod for pod in pods if pod["status"].get("phase") == "Failed"]
    return min(failed, key=lambda pod: _ended(pod).get("finishedAt", "9"), default=None)


def task_of(pod: Answer) -> str:
    """Returns the name of a pod's task, as in `JobRequest.tasks`."""
    labels = pod["metadata"].get("labels", {})
    return Role(labels.get(ROLE_LABEL, "worker"), 1).task_name(labels.get(INDEX_LABEL, "?"))


def _restarts(job: Answer, pods: Sequence[Answer]) -> int | None:
    if job["kind"] == "JobSet":
        return int(job.get("status", {}).get("restarts", 0))
    counts = [0]
    for pod in pods:
        metadata = pod["metadata"]
        counts.append(int(metadata.get("labels", {}).get(RESTART_LABEL, 0)))
        counts.append(int(metadata.get("annotations", {}).get(IGNORED_FAILURES, 0)))
    return max(counts)


def _ended(pod: Answer) -> Answer:
    for container in pod["status"].get("containerStatuses", []):
        ended: Answer = container.get("state", {}).get("terminated", {})
        if ended:
            return ended
    return {}


def _exit_code(pod: Answer) -> int | None:
    code: int | None = _ended(pod).get("exitCode")
    return code


def _failure(pod: Answer) -> str:
    ended = _ended(pod)
    if not ended:
        said = pod["status"].get("message") or pod["status"].get("reason") or "no container ended"
        return f"{task_of(pod)} failed first: {said}"
    reason = _last_words(ended.get("message", "")) or ended.get("reason", "")
    killed = " (out of memory)" if ended.get("reason") == "OOMKilled" else ""
    shown = f": {reason}" if reason and reason != "Error" else ""
    return f"{task_of(pod)} failed first with exit status {ended.get('exitCode')}{killed}{shown}"


def _last_words(message: str) -> str:
    """Returns why a container ended: from its exit reason, else the last line of its output.

    Kubernetes cuts the message at 4096 bytes, so the JSON may have no end.
    """
    found = _WHY.search(message) if message.lstrip().startswith("{") else None
    if found:
        return str(json.loads(found[1]))
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _why_waiting(pod: Answer) -> str:
    status = pod["status"]
    if status.get("phase") != "Pending":
        return ""
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in _STARTING:
            said = waiting.get("message") or ""
            return f"{task_of(pod)} waits: {waiting.get('reason')}{f': {said}' if said else ''}"
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{task_of(pod)} waits: {condition.get('message', condition.get('reason', ''))}"
    return ""


def _joined(sentences: Iterable[str]) -> str:
    said = [" ".join(each.split())[:_LONGEST_REASON] for each in sentences]
    return "; ".join(each for each in said if each)
