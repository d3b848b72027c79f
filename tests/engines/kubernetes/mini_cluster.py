"""Runs a manifest as its controllers would: Jobs, JobSet, restarts. Not Kubernetes.

Written after the sources of Kubernetes' Job controller and of JobSet, to the extent that the
manifests of tfscale use them: start order, completions, pod failure policies, backoff limits,
success and failure policies, restarts that recreate all pods.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.engines.kubernetes.namespaces import Host, RunningPod, ended
from tfscale.launch.engines.kubernetes.controllers import Pod, job_set_of, pods_of

Document = Mapping[str, Any]
_POLL_SECONDS = 0.2


@dataclass
class Run:
    """What happened.

    Attributes:
        state: "Completed" or "Failed".
        reason: Why it failed.
        restarts: Restarts of the whole job.
        counted: Those that used one of maxRestarts.
        replaced: Pods that were replaced by themselves.
        exits: Attempt, role, index and status of each pod that ended by itself, in order.
    """

    state: str = ""
    reason: str = ""
    restarts: int = 0
    counted: int = 0
    replaced: int = 0
    exits: list[tuple[int, str, int, int]] = field(default_factory=list)


Disturbance = Callable[[list[RunningPod], int], None]


def run_manifest(
    documents: Sequence[Document],
    host: Host,
    *,
    seconds: float,
    disturb: Disturbance | None = None,
) -> Run:
    """Runs a job to its end.

    Args:
        documents: The manifest.
        host: Where its pods run.
        seconds: Deadline.
        disturb: Called again and again with the running pods and the number of the attempt.
    """
    run = Run()
    deadline = time.monotonic() + seconds
    while not run.state:
        _Attempt(documents, host, run, deadline, disturb or (lambda pods, attempt: None)).run()
    return run


class _Attempt:
    """One start of a job."""

    def __init__(
        self,
        documents: Sequence[Document],
        host: Host,
        run: Run,
        deadline: float,
        disturb: Disturbance,
    ) -> None:
        self._documents = documents
        self._host = host
        self._run = run
        self._deadline = deadline
        self._disturb = disturb
        self._running: list[RunningPod] = []
        self._succeeded: dict[str, set[int]] = {}
        self._failures: dict[tuple[str, int], int] = {}
        is_job = any(document["kind"] == "Job" for document in documents)
        self._spec: Document = {} if is_job else job_set_of(documents)["spec"]

    def run(self) -> None:
        attempt = self._run.restarts
        # Roles in their order; each depends on the one before. A pod without a probe is ready when
        # its container runs.
        for pod in pods_of(self._documents, restart=attempt):
            self._running.append(self._host.start(pod, attempt))
        try:
            while not self._step():
                assert time.monotonic() < self._deadline, self._report("not over in time")
                self._disturb(self._running, attempt)
                time.sleep(_POLL_SECONDS)
        finally:
            left = [pod for pod in self._running if pod.status() is None]
            graces = [pod.pod.spec["terminationGracePeriodSeconds"] for pod in left]
            ended(left, max(graces, default=0.0))

    def _report(self, what: str) -> str:
        outputs = [f"== {p.pod.host}\n{p.output.read_text()[-2000:]}" for p in self._running]
        return "\n".join([what, str(self._run), *outputs])

    def _step(self) -> bool:
        """Accounts for pods that have ended. Returns whether the attempt is over."""
        for running in list(self._running):
            status = running.status()
            if status is None:
                continue
            self._running.remove(running)
            pod = running.pod
            self._run.exits.append((self._run.restarts, pod.role, pod.index, status))
            if status == 0:
                self._succeeded.setdefault(pod.role, set()).add(pod.index)
                if self._is_complete():
                    self._run.state = "Completed"
                    return True
            elif self._failed(pod, status):
                return True
        return False

    def _is_complete(self) -> bool:
        pods = pods_of(self._documents)
        targets = self._spec.get("successPolicy", {}).get("targetReplicatedJobs", [])
        return all(
            pod.index in self._succeeded.get(pod.role, ())
            for pod in pods
            if pod.role in targets or not targets
        )

    def _failed(self, pod: Pod, status: int) -> bool:
        """Applies the policies of the pod's Job. Returns whether the attempt is over."""
        action = _matching_action(pod, status)
        if action == "FailJob":
            return self._job_failed(pod, "PodFailurePolicy")
        key = (pod.role, pod.index)
        spec = pod.job_spec
        if action != "Ignore":
            self._failures[key] = self._failures.get(key, 0) + 1
            if "backoffLimitPerIndex" in spec:
                if self._failures[key] > spec["backoffLimitPerIndex"]:
                    return self._job_failed(pod, "MaxFailedIndexesExceeded")
            elif sum(n for (role, _), n in self._failures.items() if role == pod.role) > spec.get(
                "backoffLimit", 6
            ):
                return self._job_failed(pod, "BackoffLimitExceeded")
        self._run.replaced += 1
        ignored = (
            sum(1 for _, role, index, _ in self._run.exits if (role, index) == key)
            if action == "Ignore"
            else 0
        )
        start = self._run.restarts if self._spec else ignored
        (again,) = (
            each
            for each in pods_of(self._documents, restart=start)
            if (each.role, each.index) == key
        )
        self._running.append(self._host.start(again, start))
        return False

    def _job_failed(self, pod: Pod, reason: str) -> bool:
        """Applies the failure policy of the JobSet."""
        policy = self._spec.get("failurePolicy")
        action = "FailJobSet"
        if policy is not None:
            matching = (
                rule["action"]
                for rule in policy.get("rules", [])
                if reason in rule.get("onJobFailureReasons", [reason])
                and pod.role in rule.get("targetReplicatedJobs", [pod.role])
            )
            action = next(matching, "RestartJobSet")
        if action == "RestartJobSet":
            if self._run.counted >= policy["maxRestarts"]:  # type: ignore[index]
                action = "FailJobSet"
            else:
                self._run.counted += 1
        if action == "FailJobSet":
            self._run.state, self._run.reason = "Failed", reason
        else:
            self._run.restarts += 1
        return True


def _matching_action(pod: Pod, status: int) -> str:
    """Returns the action of the first rule that the exit status matches."""
    for rule in pod.job_spec.get("podFailurePolicy", {}).get("rules", []):
        codes = rule.get("onExitCodes")
        if codes is None:
            continue
        is_in = status in codes["values"]
        if is_in == (codes["operator"] == "In"):
            return str(rule["action"])
    return "Count"
